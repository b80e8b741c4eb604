"""Agents through HTTP: every field, epochs, lists, draining, removal."""

from __future__ import annotations

from tests.node.fleet_http import FleetNode, with_fleet

NOW = "2026-01-01T00:00:00.000Z"


def test_registration_field_by_field() -> None:
    async def step(node: FleetNode) -> None:
        given = {
            "agent_id": "a1",
            "name": "Coder",
            "endpoint": "http://127.0.0.1:9000",
            "model": "m-1",
            "specialization": "python",
            "capabilities": [{"name": "python", "proficiency": 0.85}, {"name": "go", "proficiency": 1.0}],
            "hardware": {"gpu_type": "x", "vram_gb": 24, "odd": [1]},
            "performance_targets": {"min_tps": 20},
            "labels": {"team": "red"},
            "max_concurrent": 3,
            "instance_id": "run-1",
        }
        answer = await node.post("/api/agents", given)
        assert answer.status == 201
        assert answer.headers["Location"] == "/api/agents/a1"
        assert set(answer.json) == {"agent", "epoch", "heartbeat_interval_ms"}
        assert answer.json["heartbeat_interval_ms"] == 5_000
        agent = answer.json["agent"]
        assert {name: agent[name] for name in given} == given
        assert agent["projects"] == ["default"]
        assert (agent["status"], agent["draining"], agent["free_slots"]) == ("online", False, 3)
        assert agent["epoch"] == answer.json["epoch"]
        assert (agent["registered_at"], agent["created_at"]) == (NOW, NOW)
        shown = (await node.get("/api/agents/a1")).json
        assert shown["current_tasks"] == []
        assert shown["last_seen"] == NOW
        assert shown["learned_proficiency"] is None
        assert shown["performance"] == {
            "agent_id": "a1",
            "active_tasks": 0,
            "tokens_per_second": None,
            "response_time": None,
            "success_rate": None,
            "error_rate": None,
            "retry_count": 0,
        }
        made = await node.post("/api/agents", {})
        assert len(made.json["agent"]["agent_id"]) == 36
        assert made.json["agent"]["capabilities"] == []

    with_fleet(step)


def test_epochs() -> None:
    async def step(node: FleetNode) -> None:
        first = await node.post("/api/agents", {"agent_id": "a1", "instance_id": "i"})
        same = await node.post("/api/agents", {"agent_id": "a1", "instance_id": "i", "max_concurrent": 2})
        assert (same.status, same.json["epoch"]) == (200, first.json["epoch"])
        assert same.json["agent"]["max_concurrent"] == 2
        other = await node.post("/api/agents", {"agent_id": "a1", "instance_id": "j"})
        none = await node.post("/api/agents", {"agent_id": "a1"})
        again = await node.post("/api/agents", {"agent_id": "a1"})
        epochs = [answer.json["epoch"] for answer in (first, other, none, again)]
        assert [answer.status for answer in (other, none, again)] == [201, 201, 201]
        assert epochs == sorted(set(epochs))

    with_fleet(step)


def test_registration_in_unknown_projects() -> None:
    async def step(node: FleetNode) -> None:
        assert (await node.post("/api/agents?project=nowhere", {"agent_id": "a1"})).json["code"] == "unknown_project"
        assert (await node.post("/api/agents", {"projects": ["nowhere"]})).json["code"] == "unknown_project"
        assert (await node.get("/api/agents?project=nowhere")).json["code"] == "unknown_project"
        everywhere = await node.post("/api/agents", {"agent_id": "a1", "projects": ["*"]})
        assert everywhere.json["agent"]["projects"] == ["*"]

    with_fleet(step)


def test_current_tasks_figures_and_learned_proficiency() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        for name in ("t1", "t2", "t3", "t4"):
            await node.submit(name)
        await node.claim("a1", epoch, limit=2)
        busy = (await node.get("/api/agents/a1")).json
        assert (busy["status"], busy["free_slots"]) == ("busy", 0)
        assert busy["current_tasks"] == [
            {"project": "default", "task_id": name, "attempt": 1, "status": "running"} for name in ("t1", "t2")
        ]
        await node.verb("complete", "t1", "a1", 1)
        await node.verb("fail", "t2", "a1", 1)
        ended = (await node.get("/api/agents/a1")).json
        assert (ended["completed"], ended["failed"], ended["learned_proficiency"]) == (1, 1, 0.875)
        figures = ended["performance"]
        assert (figures["success_rate"], figures["error_rate"], figures["retry_count"]) == (0.5, 0.5, 1)
        await node.beat("a1", epoch)
        await node.advance(62)
        assert (await node.get("/api/agents/a1")).json["performance"]["success_rate"] is None

    with_fleet(step)


def test_last_seen_is_the_last_sign_of_life() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.advance(4)
        await node.beat("a1", epoch)
        await node.advance(2)
        assert (await node.get("/api/agents/a1")).json["last_seen"] == "2026-01-01T00:00:04.000Z"

    with_fleet(step)


def test_list_filters() -> None:
    async def step(node: FleetNode) -> None:
        await node.post("/api/projects", {"project": "p1"})
        await node.register("a1", capabilities=[{"name": "go"}], labels={"team": "red"})
        await node.register("a2", capabilities=[{"name": "py"}], labels={"team": "blue"}, projects=["p1"])
        await node.register("a3", projects=["*"])
        await node.post("/api/agents/a3/drain")

        async def ids(query: str) -> list[str]:
            return [item["agent_id"] for item in (await node.get(f"/api/agents{query}")).json["items"]]

        assert await ids("") == ["a3", "a2", "a1"]
        assert await ids("?order=asc") == ["a1", "a2", "a3"]
        assert await ids("?capability=go,py") == ["a2", "a1"]
        assert await ids("?label=team=red") == ["a1"]
        assert await ids("?status=draining") == ["a3"]
        assert await ids("?status=online,busy") == ["a2", "a1"]
        assert await ids("?project=p1") == ["a3", "a2"]
        page = (await node.get("/api/agents?limit=2&fields=agent_id")).json
        assert page["items"] == [{"agent_id": "a3"}, {"agent_id": "a2"}]
        rest = (await node.get(f"/api/agents?limit=2&fields=agent_id&cursor={page['next_cursor']}")).json
        assert rest == {"items": [{"agent_id": "a1"}], "next_cursor": None}
        live = (await node.get("/api/agents?live=true")).json["items"][0]["live"]
        assert (live["free_slots"], live["open_poll"], live["metrics"]) == (1, False, None)

    with_fleet(step)


def test_drain_and_undrain() -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1")
        first = await node.post("/api/agents/a1/drain")
        again = await node.post("/api/agents/a1/drain")
        assert (first.status, again.status) == (200, 200)
        assert again.json["revision"] == first.json["revision"]
        assert again.json["draining"] is True
        assert (await node.ask("DELETE", "/api/agents/a1/drain")).json["status"] == "online"
        assert (await node.post("/api/agents/nobody/drain")).status == 404

    with_fleet(step)


def test_deleted_agent_gives_its_work_back() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        deleted = await node.ask("DELETE", "/api/agents/a1")
        assert deleted.json == {"agent_id": "a1", "revision": deleted.json["revision"], "deleted": True}
        assert (await node.get("/api/agents/a1")).status == 404
        assert (await node.task("t1"))["status"] == "pending"
        assert (await node.ask("DELETE", "/api/agents/a1")).status == 404
        again = await node.register("a1")
        assert again > epoch

    with_fleet(step)


def test_heartbeat_interval_grows_with_the_fleet() -> None:
    async def step(node: FleetNode) -> None:
        settings = node.duties.settings
        assert settings.interval_ms(10) == 5_000
        assert settings.interval_ms(10_000) == 50_000
        assert 10_000 / (settings.interval_ms(10_000) / 1_000) <= settings.heartbeats_per_second_max

    with_fleet(step)
