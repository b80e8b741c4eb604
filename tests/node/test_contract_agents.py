"""API.md section 5, sentence by sentence, where no other test of this folder holds the sentence already.

Above each test stands the sentence in short.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, with_fleet
from tests.node.harness import until

MEMBERS = {
    "offers", "held", "cancel", "lost", "drain", "inbox", "heartbeat_interval_ms", "durable",
}  # fmt: skip


async def last_seen(node: FleetNode, agent_id: str = "a1") -> str:
    shown = (await node.get(f"/api/agents/{agent_id}")).json["last_seen"]
    return str(shown)[11:19]


# --- registration -----------------------------------------------------------------------------------------------------


# Open objects take anything, and come back as they were given; what is absent is empty, never missing.
def test_open_objects_of_an_agent() -> None:
    async def step(node: FleetNode) -> None:
        odd = {"deep": {"list": [1, None, "x"], "é": True}}
        given = {"hardware": odd, "performance_targets": odd, "labels": {"k": [1]}, "metadata": odd}
        made = await node.post("/api/agents", {"agent_id": "a1", **given})
        assert {name: made.json["agent"][name] for name in given} == given
        plain = (await node.post("/api/agents", {"agent_id": "a2"})).json["agent"]
        assert (plain["capabilities"], plain["labels"], plain["max_concurrent"]) == ([], {}, 1)
        assert (plain["projects"], plain["instance_id"], plain["hardware"]) == (["default"], None, None)

    with_fleet(step)


# projects: by default the request's.
def test_an_agent_belongs_to_the_project_of_the_request() -> None:
    async def step(node: FleetNode) -> None:
        await node.post("/api/projects", {"project": "p1"})
        made = await node.post("/api/agents", {"agent_id": "a1"}, headers={"Hive-Project": "p1"})
        assert made.json["agent"]["projects"] == ["p1"]
        await node.submit("t1")
        assert await node.claim("a1", made.json["epoch"]) == [], "not of its project"

    with_fleet(step)


# agent_id is unique in the cluster; slots count over all its projects.
def test_slots_count_over_all_projects() -> None:
    async def step(node: FleetNode) -> None:
        await node.post("/api/projects", {"project": "p1"})
        epoch = await node.register("a1", projects=["default", "p1"], max_concurrent=2)
        again = await node.post("/api/agents?project=p1", {"agent_id": "a1", "instance_id": "other"})
        assert again.json["agent"]["projects"] == ["p1"], "the same agent, as it says it is now"
        epoch = await node.register("a1", projects=["*"], max_concurrent=2, instance_id="i3")
        for project in ("default", "p1"):
            await node.post(f"/api/tasks?project={project}", {"task_id": "same"})
            await node.post(f"/api/tasks?project={project}", {"task_id": "more"})
            claim = {"agent_id": "a1", "epoch": epoch}
            granted = await node.post(f"/api/tasks/claim?project={project}", claim)
            assert [grant["project"] for grant in granted.json["items"]] == [project]
        assert await node.claim("a1", epoch) == []
        shown = (await node.get("/api/agents/a1")).json
        assert shown["free_slots"] == 0
        assert sorted((task["project"], task["task_id"]) for task in shown["current_tasks"]) == [
            ("default", "same"), ("p1", "same"),
        ]  # fmt: skip
        running = [{"task_id": "same", "attempt": 1, "project": name} for name in ("default", "p1")]
        held = (await node.beat("a1", epoch, running=running))["held"]
        assert sorted(item["project"] for item in held) == ["default", "p1"]

    with_fleet(step)


# Another instance_id or none: a new epoch, and what was held under the old one is requeued at once.
@pytest.mark.parametrize("instance", [{"instance_id": "i2"}, {}])
def test_a_new_process_gives_its_old_work_back(instance: dict[str, str]) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        for name in ("ran", "offered"):
            await node.submit(name)
        await node.claim("a1", epoch)
        await node.ask("PUT", "/api/tasks/offered/assign", {"agent_id": "a1"})
        again = await node.post("/api/agents", {"agent_id": "a1", **instance})
        assert (again.status, again.json["epoch"] > epoch) == (201, True)
        for name in ("ran", "offered"):
            assert (await node.task(name))["status"] == "pending"
        late = await node.verb("complete", "ran", "a1", 1)
        assert (late.status, late.json["code"]) == (409, "stale_attempt")
        old = await node.post("/api/agents/a1/heartbeat", {"epoch": epoch})
        assert (old.status, old.json["code"], old.json["current"]) == (
            409, "stale_epoch", {"epoch": again.json["epoch"]},
        )  # fmt: skip

    with_fleet(step)


# --- heartbeats -------------------------------------------------------------------------------------------------------


# Every member is there in every reply, also in the empty one of a poll that a newer one ended.
def test_members_of_a_heartbeat() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        first = await node.poll("a1", epoch)
        second = await node.poll("a1", epoch)
        ended = await first
        assert set(ended) == MEMBERS
        assert (ended["offers"], ended["held"], ended["cancel"], ended["lost"]) == ([], [], [], [])
        assert ended["inbox"] == {"unread": 0, "high": 0}
        await node.submit("t1")
        told = await second
        assert set(told) == MEMBERS
        (offer,) = told["offers"]
        assert 0 < offer["offer_expires_in_ms"] <= 5_000
        assert told["held"] == [], "an offer is not held yet"

    with_fleet(step)


# All metrics that are named are taken, others too; they are shown as given, to whoever asks for live.
def test_metrics_are_open() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        metrics = {
            "timestamp": "2026-01-01T00:00:00Z", "response_time": 0.5, "tokens_per_second": 12, "cpu_usage": 1,
            "memory_usage": 2, "disk_usage": 3, "network_io": {"in": 1}, "gpu_usage": 4, "gpu_memory": 5,
            "gpu_temperature": 60.5, "available": True, "error_message": None, "anything": ["else"],
        }  # fmt: skip
        answer = await node.beat("a1", epoch, metrics=metrics)
        assert "warnings" not in answer
        assert (await node.get("/api/agents/a1?live=true")).json["live"]["metrics"] == metrics
        await node.beat("a1", epoch)
        assert (await node.get("/api/agents/a1?live=true")).json["live"]["metrics"] == metrics, "the last ones said"

    with_fleet(step)


# running[].progress says how far it is, as an object or a number, and reaches who looks at the task live.
@pytest.mark.parametrize("progress", [0.25, {"fraction": 0.25}, {"fraction": 0.25, "message": "half of a half"}])
def test_progress_within_a_heartbeat(progress: Any) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        index = node.replica.index
        await node.beat("a1", epoch, running=[{"task_id": "t1", "attempt": 1, "progress": progress}])
        assert node.replica.index == index, "nothing goes to the log"
        shown = (await node.get("/api/tasks/t1?live=true")).json["progress"]
        assert shown["fraction"] == 0.25
        assert shown["message"] == (progress.get("message") if isinstance(progress, dict) else None)

    with_fleet(step)


# cancel names the attempt and the reason: by a user, with its group, by its deadline.
def test_reasons_to_stop() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        await node.submit("by-hand")
        await node.submit("of-group", group_id="g")
        await node.submit("by-deadline", deadline_in_ms=2_000)
        await node.claim("a1", epoch, limit=3)
        names = ("by-hand", "of-group", "by-deadline")
        poll = await node.poll("a1", epoch, running=[{"task_id": name, "attempt": 1} for name in names])
        await node.ask("DELETE", "/api/tasks/by-hand")
        assert [item["task_id"] for item in (await poll)["cancel"]] == ["by-hand"], "within the poll"
        await node.ask("DELETE", "/api/groups/g")
        await node.advance(3)
        cancel = (await node.beat("a1", epoch))["cancel"]
        assert all(set(item) == {"task_id", "attempt", "reason", "project"} for item in cancel)
        assert {item["task_id"]: item["reason"] for item in cancel} == {
            "by-hand": "cancelled", "of-group": "cancelled", "by-deadline": "deadline",
        }  # fmt: skip
        for name in names:
            assert (await node.verb("release", name, "a1", 1)).status == 200
        assert (await node.beat("a1", epoch))["cancel"] == []

    with_fleet(step)


# lost says what became of it; an attempt that never was is lost too.
def test_what_is_lost_and_to_whom() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        other = await node.register("a2")
        await node.submit("t1", lease_ms=5_000, backoff={"initial_ms": 0, "jitter": 0})
        await node.claim("a1", epoch)
        await node.advance(6)
        await node.post("/api/tasks/t1/claim", {"agent_id": "a2", "epoch": other})
        listed = [
            {"task_id": "t1", "attempt": 1},
            {"task_id": "t1", "attempt": 9},
            {"task_id": "nowhere", "attempt": 1},
        ]
        lost = (await node.beat("a1", epoch, running=listed))["lost"]
        assert [(item["task_id"], item["attempt"]) for item in lost] == [("t1", 1), ("t1", 9), ("nowhere", 1)]
        assert lost[0]["current"] == {
            "status": "running", "attempt": 2, "agent_id": "a2", "granted_at": "2026-01-01T00:00:06.000Z",
        }  # fmt: skip
        assert lost[2]["current"] is None

    with_fleet(step)


# An offer goes only to an agent with an open poll.
def test_no_offer_without_a_poll() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        assert (await node.beat("a1", epoch))["offers"] == []
        await node.advance(1)
        assert (await node.task("t1"))["status"] == "pending"
        poll = await node.poll("a1", epoch)
        assert [offer["task_id"] for offer in (await poll)["offers"]] == ["t1"]

    with_fleet(step)


# An open poll is a sign of life, and so is any call with the agent's id and epoch.
@pytest.mark.parametrize(
    "call", ["renew", "progress", "checkpoint", "complete", "fail", "release", "wait", "claim", "claim one"]
)
def test_signs_of_life(call: str) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        await node.submit("t1")
        await node.claim("a1", epoch)
        assert await last_seen(node) == "00:00:00"
        await node.advance(14)
        agent = {"agent_id": "a1", "epoch": epoch}
        if call == "claim":
            await node.post("/api/tasks/claim", agent)
        elif call == "claim one":
            await node.submit("t2")
            assert (await node.post("/api/tasks/t2/claim", agent)).status == 200
        else:
            verb = "progress" if call == "checkpoint" else call
            fields: dict[str, Any] = {"for": {"kind": "event"}} if verb == "wait" else {}
            fields |= {"checkpoint": [1]} if call == "checkpoint" else {}
            assert (await node.verb(verb, "t1", "a1", 1, epoch=epoch, **fields)).status == 200
        await node.advance(0.1)
        assert await last_seen(node) == "00:00:14"
        await node.advance(10)
        assert (await node.get("/api/agents/a1")).json["status"] != "offline"

    with_fleet(step)


# Leases of what running lists are renewed at arrival and at reply; what is not listed is not.
def test_renewals_at_both_ends_of_a_poll() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        for name in ("listed", "other"):
            await node.submit(name, lease_ms=10_000)
        await node.claim("a1", epoch, limit=2)
        await node.advance(4)
        poll = await node.poll("a1", epoch, running=[{"task_id": "listed", "attempt": 1}], wait_ms=5_000)
        live = {
            item["task_id"]: item["live"]["lease_remaining_ms"]
            for item in (await node.get("/api/tasks?live=true")).json["items"]
        }
        assert live == {"listed": 10_000, "other": 6_000}, "at arrival"
        await node.advance(5)
        left = {item["task_id"]: item["lease_remaining_ms"] for item in (await poll)["held"]}
        assert left["listed"] == 10_000, "and at reply"
        assert left["other"] <= 1_000

    with_fleet(step)


# --- lists and shown fields -------------------------------------------------------------------------------------------


# Filters status, capability, label, project, alone and together, with several values.
def test_every_filter_of_the_list() -> None:
    async def step(node: FleetNode) -> None:
        await node.post("/api/projects", {"project": "p1"})
        busy = await node.register("busy", capabilities=[{"name": "go"}], labels={"team": "red", "gpu": 1})
        await node.register("idle", capabilities=[{"name": "py"}, {"name": "go"}], labels={"team": "red"})
        await node.register("away", projects=["p1"])
        await node.post("/api/agents/away/drain")
        await node.submit("t1")
        await node.claim("busy", busy)

        async def names(query: str) -> list[str]:
            answer = await node.get(f"/api/agents?{query}")
            assert answer.status == 200, answer
            return [item["agent_id"] for item in answer.json["items"]]

        expected = {
            "status=busy": ["busy"],
            "status=online": ["idle"],
            "status=busy,draining": ["away", "busy"],
            "status=offline,unresponsive": [],
            "capability=go": ["idle", "busy"],
            "capability=py,rust": ["idle"],
            "label=team%3Dred": ["idle", "busy"],
            "label=team%3Dred&label=gpu%3D1": ["busy"],
            "project=p1": ["away"],
            "project=default": ["idle", "busy"],
            "capability=go&status=online": ["idle"],
            "order=asc": ["busy", "idle", "away"],
        }
        assert {query: await names(query) for query in expected} == expected

    with_fleet(step)


# One agent shows what it holds, its free slots, when it was seen, how it does, what was learned of it.
def test_members_of_an_agent() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        for name in ("t1", "t2"):
            await node.submit(name)
        await node.claim("a1", epoch)
        await node.ask("PUT", "/api/tasks/t2/assign", {"agent_id": "a1"})
        shown = (await node.get("/api/agents/a1")).json
        assert shown["current_tasks"] == [
            {"project": "default", "task_id": "t1", "attempt": 1, "status": "running"},
            {"project": "default", "task_id": "t2", "attempt": 1, "status": "assigned"},
        ]
        assert (shown["free_slots"], shown["status"]) == (1, "online")
        assert {"last_seen", "performance", "learned_proficiency", "revision", "created_revision"} <= set(shown)
        assert set(shown["performance"]) >= {
            "tokens_per_second", "response_time", "success_rate", "error_rate", "retry_count", "active_tasks",
        }  # fmt: skip

    with_fleet(step)


# Without a leader what only it knows is null, and the rest is there.
def test_an_agent_without_a_leader() -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1")
        node.replica.follow()
        shown = await node.get("/api/agents/a1?live=true")
        assert shown.status == 200
        assert (shown.json["last_seen"], shown.json["performance"], shown.json["live"]) == (None, None, None)
        assert shown.json["free_slots"] == 1
        listed = (await node.get("/api/agents?live=true")).json["items"]
        assert [item["live"] for item in listed] == [None]

    with_fleet(step)


# --- refusals ---------------------------------------------------------------------------------------------------------


# No leader: the write did not happen, may be repeated, and says when.
def test_refusals_for_a_moment_say_when_to_come_back() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        node.replica.follow()
        for path, body in (
            ("/api/tasks", {}),
            ("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch}),
            ("/api/agents/a1/heartbeat", {"epoch": epoch}),
        ):
            answer = await node.post(f"{path}?timeout_ms=50", body)
            assert (answer.status, answer.json["code"], answer.json["retry"]) == (503, "no_leader", "safe"), path
            assert answer.json["retry_after_ms"] > 0
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json["instance"] == path

    with_fleet(step)


# Status: offline, unresponsive, draining, busy, online; a drained agent that does nothing else stays what it is.
def test_statuses() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")

        async def status() -> str:
            return str((await node.get("/api/agents/a1")).json["status"])

        assert await status() == "online"
        await node.submit("t1")
        await node.claim("a1", epoch)
        assert await status() == "busy"
        await node.post("/api/agents/a1/drain")
        assert await status() == "draining"
        await node.verb("complete", "t1", "a1", 1)
        assert await status() == "draining"
        await node.ask("DELETE", "/api/agents/a1/drain")
        await node.advance(16)
        assert await status() == "offline"
        await node.beat("a1", epoch)
        await node.advance(0.1)
        assert await status() == "online"

    with_fleet(step)


# DELETE of an agent ends its polls: whoever waits is told that it is unknown.
def test_a_deleted_agent_hears_of_it() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        body = {"epoch": epoch, "wait_ms": 60_000}
        poll = asyncio.create_task(node.post("/api/agents/a1/heartbeat", body))
        await until(lambda: node.duties.polls.opened == 1)
        await node.ask("DELETE", "/api/agents/a1")
        answer = await poll
        assert (answer.status, answer.json["code"]) == (404, "not_found")

    with_fleet(step)
