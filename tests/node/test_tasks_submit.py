"""Submitting tasks: every field, batches, repeats, dependencies, groups."""

from __future__ import annotations

import asyncio
from typing import Any

from node.duties.frames import frame
from node.duties.messages import ClaimReply, ClaimRequest
from statemachine.commands import ClaimTasks
from tests.node.fleet_http import FleetNode, with_fleet
from tests.node.harness import until

NOW = "2026-01-01T00:00:00.000Z"


def test_defaults_field_by_field() -> None:
    async def step(node: FleetNode) -> None:
        answer = await node.post("/api/tasks", {})
        assert answer.status == 201
        task = answer.json
        assert answer.headers["Location"] == f"/api/tasks/{task['task_id']}"
        assert answer.headers["Hive-Revision"] == str(task["revision"])
        task_id = task.pop("task_id")
        assert len(task_id) == 36
        revision = task.pop("revision")
        assert task.pop("created_revision") == revision
        assert task == {
            "project": "default",
            "queue": "default",
            "type": "task",
            "status": "pending",
            "title": None,
            "description": None,
            "payload": None,
            "priority": 5,
            "requires": [],
            "labels": {},
            "depends_on": [],
            "on_dependency_failure": "block",
            "group_id": None,
            "not_before": None,
            "deadline": None,
            "expires_unstarted_ms": None,
            "run_timeout_ms": None,
            "lease_ms": 60_000,
            "max_attempts": 3,
            "backoff": {"initial_ms": 1_000, "factor": 2.0, "max_ms": 60_000, "jitter": 0.2},
            "unique_key": None,
            "concurrency_key": None,
            "locks": [],
            "session_id": None,
            "metadata": None,
            "attempt": 0,
            "tries": 0,
            "agent_id": None,
            "progress": {"fraction": None, "message": None, "checkpoint": None},
            "result": None,
            "artifacts": [],
            "failure": None,
            "usage": {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0},
            "waiting": None,
            "history": [],
            "created_at": NOW,
            "updated_at": NOW,
            "started_at": None,
            "completed_at": None,
        }

    with_fleet(step)


def test_every_field_comes_back() -> None:
    async def step(node: FleetNode) -> None:
        await node.submit("before")
        given: dict[str, Any] = {
            "task_id": "t1",
            "queue": "q1",
            "type": "outline",
            "title": "A title",
            "description": "x" * 3_000,
            "payload": {"big": "y" * 5_000},
            "requires": [{"name": "python", "min_proficiency": 0.75}],
            "labels": {"team": "red", "size": 3},
            "depends_on": ["before"],
            "on_dependency_failure": "run",
            "group_id": "g1",
            "expires_unstarted_ms": 5_000,
            "run_timeout_ms": 6_000,
            "lease_ms": 7_000,
            "max_attempts": 9,
            "backoff": {"initial_ms": 5, "factor": 1.5, "max_ms": 500, "jitter": 0.25},
            "unique_key": "only one",
            "concurrency_key": "repo",
            "session_id": "s1",
            "metadata": {"a": [1, 2, {"b": None}]},
        }
        task = await node.submit(
            **given, priority="high", not_before="2026-01-02T02:00:00+02:00", deadline_in_ms=60_000
        )
        assert {name: task[name] for name in given} == given
        assert task["status"] == "blocked"
        assert task["priority"] == 8
        assert task["not_before"] == "2026-01-02T00:00:00.000Z"
        assert task["deadline"] == "2026-01-01T00:01:00.000Z"
        assert (await node.task("t1")) == task

    with_fleet(step)


def test_same_content_again_and_other_content() -> None:
    async def step(node: FleetNode) -> None:
        first = await node.post("/api/tasks", {"task_id": "t1", "payload": {"n": 1}})
        again = await node.post("/api/tasks", {"task_id": "t1", "payload": {"n": 1}})
        assert (again.status, again.json) == (200, first.json)
        other = await node.post("/api/tasks", {"task_id": "t1", "payload": {"n": 2}})
        assert (other.status, other.json["code"]) == (409, "exists")
        assert other.json["current"]["task_id"] == "t1"
        await node.submit("u1", unique_key="k")
        held = await node.post("/api/tasks", {"unique_key": "k"})
        assert (held.status, held.json["task_id"]) == (200, "u1")

    with_fleet(step)


def test_idempotency_key_makes_one_task() -> None:
    async def step(node: FleetNode) -> None:
        headers = {"Idempotency-Key": "key-1"}
        first = await node.post("/api/tasks", {"title": "x"}, headers=headers)
        await node.ask("DELETE", f"/api/tasks/{first.json['task_id']}")
        again = await node.post("/api/tasks", {"title": "x"}, headers=headers)
        assert (again.status, again.json["task_id"]) == (201, first.json["task_id"])
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.headers["Location"] == first.headers["Location"]
        assert again.json["revision"] == first.json["revision"]
        assert again.json["status"] == "cancelled", "other fields as they are now"
        assert (await node.get("/api/tasks")).json["items"][0]["task_id"] == first.json["task_id"]
        reused = await node.post("/api/tasks", {"title": "y"}, headers=headers)
        assert (reused.status, reused.json["code"]) == (422, "idempotency_key_reused")

    with_fleet(step)


def test_claim_repeated_under_its_key_gets_the_same() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=5)
        for number in range(3):
            await node.submit(f"t{number}")
        body, headers = {"agent_id": "a1", "epoch": epoch}, {"Idempotency-Key": "claim-1"}
        first = await node.post("/api/tasks/claim", body, headers=headers)
        again = await node.post("/api/tasks/claim", body, headers=headers)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert [(grant["task_id"], grant["attempt"]) for grant in again.json["items"]] == [("t0", 1)]
        assert first.json["items"][0]["task_id"] == "t0"
        assert (await node.task("t1"))["status"] == "pending"
        assert not node.leadership.memory.pending.get(("default", "t1")).reserved  # type: ignore[union-attr]  # it is pending

    with_fleet(step)


def test_claim_whose_task_went_elsewhere_tries_again_and_can_be_repeated() -> None:
    async def step(node: FleetNode) -> None:
        epochs = {name: await node.register(name) for name in ("a1", "a2")}
        for name in ("t1", "t2"):
            await node.submit(name)
        claim, calls = node.duties.calls.claim, 0

        async def slow(request: ClaimRequest) -> ClaimReply:
            """Between the leader's choice and the claim, somebody takes the task by name."""
            nonlocal calls
            calls += 1
            reply = await claim(request)
            if calls == 1:
                node.replica.apply([frame(ClaimTasks("a2", epochs["a2"], ("t1",), named=True), "default")])
            return reply

        node.duties.calls.claim = slow  # type: ignore[method-assign]  # a slow network
        body, headers = {"agent_id": "a1", "epoch": epochs["a1"]}, {"Idempotency-Key": "k"}
        first = await node.post("/api/tasks/claim", body, headers=headers)
        assert [grant["task_id"] for grant in first.json["items"]] == ["t2"]
        again = await node.post("/api/tasks/claim", body, headers=headers)
        assert [grant["task_id"] for grant in again.json["items"]] == ["t2"]
        assert calls == 2

    with_fleet(step)


def test_plain_batch_decides_item_by_item() -> None:
    async def step(node: FleetNode) -> None:
        items = [
            {"task_id": "late", "depends_on": ["early"]},
            {"task_id": "early"},
            {"task_id": "lost", "depends_on": ["nowhere"]},
            {"task_id": "lost2", "depends_on": ["lost"]},
            {"task_id": "x", "depends_on": ["y"]},
            {"task_id": "y", "depends_on": ["x"]},
        ]
        answer = await node.post("/api/tasks/batch", {"items": items})
        assert answer.status == 200
        shown = answer.json["items"]
        assert [item["status"] for item in shown] == [201, 201, 400, 400, 400, 400]
        assert [item["id"] for item in shown] == ["late", "early", "lost", "lost2", "x", "y"]
        assert shown[2]["code"] == "invalid_request"
        assert "items[2].depends_on[0]" in shown[2]["detail"]
        assert "body" not in shown[0]
        assert answer.json["revision"] == max(item["revision"] for item in shown if item["status"] == 201)
        assert (await node.task("late"))["status"] == "blocked"
        full = await node.post("/api/tasks/batch?return=full", {"items": items[:2]})
        assert [item["status"] for item in full.json["items"]] == [200, 200]
        assert full.json["items"][0]["body"]["task_id"] == "late"

    with_fleet(step)


def test_atomic_batch_is_all_or_nothing() -> None:
    async def step(node: FleetNode) -> None:
        items = [{"task_id": "a"}, {"task_id": "b", "depends_on": ["nowhere"]}]
        revision = node.replica.revision
        answer = await node.post("/api/tasks/batch", {"items": items, "atomic": True})
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert answer.json["errors"][0]["path"] == "items[1].depends_on[0]"
        assert node.replica.revision == revision
        assert (await node.get("/api/tasks/a")).status == 404
        good = await node.post("/api/tasks/batch", {"items": [{"task_id": "a"}, {"task_id": "b"}], "atomic": True})
        assert {item["revision"] for item in good.json["items"]} == {good.json["revision"]}

    with_fleet(step)


def test_single_refusal_names_its_own_path() -> None:
    async def step(node: FleetNode) -> None:
        answer = await node.post("/api/tasks", {"depends_on": ["nowhere"]})
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert answer.json["errors"][0]["path"] == "depends_on[0]"
        assert "items" not in answer.json["detail"]

    with_fleet(step)


def test_refused_items_name_their_fields() -> None:
    async def step(node: FleetNode) -> None:
        items = [{"task_id": "t1", "depends_on": ["nope"]}, {"task_id": "t2"}]
        answer = await node.post("/api/tasks/batch", {"items": items})
        bad, good = answer.json["items"]
        assert (bad["status"], bad["code"], bad["retry"]) == (400, "invalid_request", "no")
        assert [error["path"] for error in bad["errors"]] == ["items[0].depends_on[0]"]
        assert "current" not in bad
        assert (good["status"], good["id"]) == (201, "t2")

    with_fleet(step)


def test_a_task_that_depends_on_itself_is_not_even_proposed() -> None:
    async def step(node: FleetNode) -> None:
        index = node.replica.index
        single = await node.post("/api/tasks", {"task_id": "t1", "depends_on": ["t0", "t1"]})
        batch = await node.post("/api/tasks/batch", {"items": [{}, {"task_id": "t1", "depends_on": ["t1"]}]})
        for answer, path in ((single, "depends_on[1]"), (batch, "items[1].depends_on[0]")):
            assert (answer.status, answer.json["code"]) == (400, "invalid_request")
            assert [error["path"] for error in answer.json["errors"]] == [path]
        assert node.replica.index == index

    with_fleet(step)


def test_a_group_may_be_called_as_a_verb() -> None:
    async def step(node: FleetNode) -> None:
        await node.submit("t1", group_id="retry", queue="search")
        assert (await node.get("/api/groups/retry")).json["total"] == 1
        assert (await node.get("/api/groups/a%20b")).json["errors"][0]["path"] == "group_id"

    with_fleet(step)


def test_dependencies_and_their_results() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("first")
        await node.submit("second", depends_on=["first"])
        explained = (await node.get("/api/tasks/second/explain")).json
        assert explained["status"] == "blocked"
        assert explained["reasons"][0]["code"] == "dependency"
        assert explained["reasons"][0]["data"]["tasks"] == [{"task_id": "first", "status": "pending"}]
        (grant,) = await node.claim("a1", epoch)
        follow_up = {"task_id": "third", "depends_on": ["first"]}
        await node.verb("complete", "first", "a1", 1, result=[1, 2], tasks=[follow_up])
        assert grant["task_id"] == "first"
        (second,) = await node.claim("a1", epoch)
        assert second["dependencies"] == [
            {"task_id": "first", "status": "completed", "result": [1, 2], "artifacts": []}
        ]
        assert (await node.task("third"))["status"] == "pending"

    with_fleet(step)


def test_failed_dependency_cancels_or_runs_dependents() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("first", max_attempts=1)
        for policy in ("block", "cancel", "run"):
            await node.submit(f"on-{policy}", depends_on=["first"], on_dependency_failure=policy)
        await node.claim("a1", epoch)
        await node.verb("fail", "first", "a1", 1)
        statuses = {name: (await node.task(f"on-{name}"))["status"] for name in ("block", "cancel", "run")}
        assert statuses == {"block": "blocked", "cancel": "cancelled", "run": "pending"}

    with_fleet(step)


def test_completion_with_events_is_all_or_nothing() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.post("/api/sessions", {"session_id": "s1"})
        await node.submit("t1", session_id="s1")
        await node.claim("a1", epoch)
        event = {"type": "custom.done", "data": {"n": 1}}
        wrong = await node.verb("complete", "t1", "a1", 1, events=[{**event, "session_id": "nowhere"}])
        assert wrong.status == 404
        assert (await node.task("t1"))["status"] == "running"
        assert (await node.verb("complete", "t1", "a1", 1, events=[event])).status == 200
        log = (await node.get("/api/sessions/s1/events")).json["items"]
        assert [item["type"] for item in log] == ["custom.done"]

    with_fleet(step)


def test_group_counts_waits_and_cancels() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        items = [{"task_id": f"t{number}", "group_id": "g1", "max_attempts": 1} for number in range(3)]
        await node.post("/api/tasks/batch", {"items": items})
        group = (await node.get("/api/groups/g1")).json
        assert (group["counts"], group["total"], group["failed"], group["ended"]) == ({"pending": 3}, 3, [], False)
        await node.claim("a1", epoch, limit=2)
        waiting = asyncio.create_task(node.get("/api/groups/g1?until=any_failed&wait_ms=30000"))
        ending = asyncio.create_task(node.get("/api/groups/g1?until=ended&wait_ms=30000"))
        await until(lambda: node.api.wakeups.waiting > 0)
        await node.verb("fail", "t0", "a1", 1)
        failed = (await waiting).json
        assert failed["failed"] == ["t0"]
        assert failed["counts"] == {"failed": 1, "running": 1, "pending": 1}
        cancelled = await node.ask("DELETE", "/api/groups/g1")
        assert cancelled.json["cancelled"] == 2
        assert (await ending).json["ended"] is True
        assert (await node.get("/api/groups/nowhere")).status == 404
        assert (await node.ask("DELETE", "/api/groups/nowhere")).status == 404

    with_fleet(step)


def test_large_group_is_cancelled_to_its_end() -> None:
    async def step(node: FleetNode) -> None:
        items = [{"task_id": f"t{number}", "group_id": "g1"} for number in range(700)]
        await node.post("/api/tasks/batch", {"items": items})
        await node.ask("DELETE", "/api/groups/g1")
        group = (await node.get("/api/groups/g1?until=ended&wait_ms=10000")).json
        assert group["counts"] == {"cancelled": 700}

    with_fleet(step)


def test_waiting_for_one_task() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        started = asyncio.create_task(node.get("/api/tasks/t1?until=started&wait_ms=30000"))
        ended = asyncio.create_task(node.get("/api/tasks/t1?until=ended&wait_ms=30000"))
        await until(lambda: node.api.wakeups.waiting > 0)
        await node.claim("a1", epoch)
        assert (await started).json["status"] == "running"
        await node.verb("complete", "t1", "a1", 1)
        assert (await ended).json["status"] == "completed"
        late = await node.get("/api/tasks/t1?until=ended&wait_ms=30000")
        assert late.json["status"] == "completed"
        await node.submit("t2")
        assert (await node.get("/api/tasks/t2?until=ended&wait_ms=10")).json["status"] == "pending"
        assert (await node.get("/api/tasks/nowhere?until=ended&wait_ms=30000")).status == 404

    with_fleet(step)


def test_list_filters_and_cursor() -> None:
    async def step(node: FleetNode) -> None:
        for number in range(5):
            await node.submit(
                f"t{number}",
                queue=f"q{number % 2}",
                labels={"k": f"v{number % 2}"},
                group_id="g",
                type=f"y{number % 3}",
            )
        await node.submit("dep", depends_on=["t1"], unique_key="u", session_id="s")

        async def ids(query: str) -> list[str]:
            return [item["task_id"] for item in (await node.get(f"/api/tasks?{query}")).json["items"]]

        assert await ids("queue=q1") == ["t3", "t1"]
        assert await ids("queue=q1&order=asc") == ["t1", "t3"]
        assert await ids("label=k=v1&type=y0,y1") == ["t3", "t1"]
        assert await ids("label=k=v1&label=k=v0") == []
        assert await ids("status=blocked") == ["dep"]
        assert await ids("depends_on=t1") == ["dep"]
        assert await ids("unique_key=u") == ["dep"]
        assert await ids("session_id=s") == ["dep"]
        assert await ids("group_id=g&status=pending,blocked&limit=2") == ["t4", "t3"]
        assert await ids("ids=t0,t4,nowhere") == ["t4", "t0"]
        assert await ids("waiting_for=approval") == []
        page = (await node.get("/api/tasks?limit=4&fields=task_id,status")).json
        assert page["items"][0] == {"task_id": "dep", "status": "blocked"}
        rest = (await node.get(f"/api/tasks?limit=4&fields=task_id&cursor={page['next_cursor']}")).json
        assert [item["task_id"] for item in rest["items"]] == ["t1", "t0"]
        assert rest["next_cursor"] is None
        other = await node.get(f"/api/tasks?limit=4&queue=q1&cursor={page['next_cursor']}")
        assert (other.status, other.json["code"]) == (400, "invalid_cursor")

    with_fleet(step)


def test_live_list_shows_leases() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.submit("t2")
        await node.claim("a1", epoch)
        items = (await node.get("/api/tasks?live=true")).json["items"]
        assert items[0]["live"] is None
        assert items[1]["live"]["lease_remaining_ms"] == 60_000

    with_fleet(step)


def test_patch_merges_and_moves() -> None:
    async def step(node: FleetNode) -> None:
        await node.submit("t1", labels={"a": 1, "b": 2}, metadata={"x": {"y": 1}})
        changed = await node.ask(
            "PATCH", "/api/tasks/t1", {"labels": {"b": None, "c": 3}, "metadata": {"x": {"z": 2}}, "priority": "low"}
        )
        assert changed.status == 200, changed
        assert changed.json["labels"] == {"a": 1, "c": 3}
        assert changed.json["metadata"] == {"x": {"y": 1, "z": 2}}
        assert changed.json["priority"] == 2
        later = await node.ask("PATCH", "/api/tasks/t1", {"not_before": "2026-01-01T00:00:10Z", "queue": "q2"})
        assert (later.json["status"], later.json["queue"]) == ("scheduled", "q2")
        now = await node.ask("PATCH", "/api/tasks/t1", {"not_before": None, "labels": None})
        assert (now.json["status"], now.json["labels"]) == ("pending", {})
        stale = await node.ask("PATCH", "/api/tasks/t1", {"priority": 1, "if_revision": changed.json["revision"]})
        assert (stale.status, stale.json["code"]) == (409, "conflict")
        assert (await node.ask("PATCH", "/api/tasks/nowhere", {"labels": {"a": 1}})).status == 404
        await node.ask("DELETE", "/api/tasks/t1")
        assert (await node.ask("PATCH", "/api/tasks/t1", {"priority": 1})).status == 409
        epoch = await node.register("a1")
        assert await node.claim("a1", epoch) == []

    with_fleet(step)


def test_patched_priority_changes_the_order() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        for name in ("t1", "t2", "t3"):
            await node.submit(name)
        await node.claim("a1", epoch)
        await node.ask("PATCH", "/api/tasks/t3", {"priority": 9})
        assert [grant["task_id"] for grant in await node.claim("a1", epoch, limit=2)] == ["t3", "t2"]

    with_fleet(step)


def test_assign_by_hand() -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1", capabilities=[{"name": "go"}])
        await node.submit("t1", requires=[{"name": "python"}])
        await node.submit("t2")
        refused = await node.ask("PUT", "/api/tasks/t1/assign", {"agent_id": "a1"})
        assert (refused.status, refused.json["code"]) == (409, "agent_unavailable")
        assert refused.json["why"] == refused.json["current"]["why"] == "capability"
        unknown = await node.ask("PUT", "/api/tasks/t2/assign", {"agent_id": "nobody"})
        assert (unknown.status, unknown.json["current"]["why"]) == (409, "unknown")
        given = await node.ask("PUT", "/api/tasks/t2/assign", {"agent_id": "a1"})
        assert (given.status, given.json["status"], given.json["agent_id"]) == (200, "assigned", "a1")
        full = await node.ask("PUT", "/api/tasks/t2/assign", {"agent_id": "a1"})
        assert full.json["code"] == "conflict"
        await node.advance(6)
        assert (await node.task("t2"))["status"] == "pending"

    with_fleet(step)


def test_explain_counts_agents() -> None:
    async def step(node: FleetNode) -> None:
        await node.submit("t1", requires=[{"name": "python", "min_proficiency": 0.8}])
        nobody = (await node.get("/api/tasks/t1/explain")).json
        assert [reason["code"] for reason in nobody["reasons"]] == ["no_agent_capability"]
        await node.register("weak", capabilities=[{"name": "python", "proficiency": 0.5}])
        await node.register("draining", capabilities=[{"name": "python"}])
        await node.post("/api/agents/draining/drain")
        drained = (await node.get("/api/tasks/t1/explain")).json
        assert [reason["code"] for reason in drained["reasons"]] == ["all_draining"]
        assert drained["agents"] == {"total": 2, "filtered": {"capability": 1, "draining": 1}, "candidates": []}
        busy = await node.register("busy", capabilities=[{"name": "python"}])
        await node.submit("t0", priority=9, requires=[{"name": "python", "min_proficiency": 0.9}])
        await node.claim("busy", busy)
        full = (await node.get("/api/tasks/t1/explain")).json
        assert [reason["code"] for reason in full["reasons"]] == ["no_free_slot", "all_draining"]
        await node.register("free", capabilities=[{"name": "python", "proficiency": 0.9}])
        (candidate,) = (await node.get("/api/tasks/t1/explain")).json["agents"]["candidates"]
        assert candidate["agent_id"] == "free"
        assert candidate["parts"] == {
        "proficiency": 0.9, "load": 1.0, "affinity": 0.0, "success": 1.0, "cost": 0.5, "listening": 0.0,
    }  # fmt: skip
        assert (await node.get("/api/tasks/t0/explain")).json["reasons"] == []
        await node.ask("DELETE", "/api/tasks/t1")
        assert (await node.get("/api/tasks/t1/explain")).json["reasons"][0]["code"] == "ended"
        assert (await node.get("/api/tasks/nowhere/explain")).status == 404

    with_fleet(step)


def test_projects_are_apart() -> None:
    async def step(node: FleetNode) -> None:
        assert (await node.post("/api/tasks?project=p1", {"task_id": "t1"})).status == 201
        assert (await node.get("/api/tasks/t1")).status == 404
        assert (await node.get("/api/tasks/t1?project=p1")).json["project"] == "p1"
        epoch = await node.register("a1", projects=["p1"], max_concurrent=2)
        assert await node.claim("a1", epoch) == []
        claim = {"agent_id": "a1", "epoch": epoch}
        granted = await node.post("/api/tasks/claim?project=p1", claim)
        assert [grant["project"] for grant in granted.json["items"]] == ["p1"]
        unknown = await node.post("/api/tasks/claim?project=nowhere", claim)
        assert (unknown.status, unknown.json["code"]) == (404, "unknown_project")
        wrong = await node.verb("complete", "t1", "a1", 1)
        assert wrong.status == 404
        body = {"epoch": epoch, "running": [{"task_id": "t1", "attempt": 1}]}
        beat = await node.post("/api/agents/a1/heartbeat", body)
        assert beat.json["held"][0]["project"] == "p1"
        assert beat.json["lost"] == []

    with_fleet(step)
