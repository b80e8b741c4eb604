"""Parking and resuming through HTTP: slots, answers, timeouts, filters, explanations, redrive."""

from __future__ import annotations

from typing import Any

from node.api.ids import new_id
from node.duties.settings import DutySettings
from tests.node.fleet_http import FleetNode, with_fleet
from tests.node.harness import Answer, until

PLAN = {"kind": "approval", "name": "plan", "prompt": "Go?", "options": ["yes", {"no": 1}], "assignee": "ann"}


async def parked(node: FleetNode, task_id: str = "t1", wait_for: Any = PLAN, **fields: Any) -> int:
    """Submit a task, claim it and park it -> the agent's epoch."""
    epoch = await node.register("a1", max_concurrent=9)
    await node.submit(task_id)
    await node.post(f"/api/tasks/{task_id}/claim", {"agent_id": "a1", "epoch": epoch})
    answer = await node.verb("wait", task_id, "a1", 1, **{"for": wait_for, **fields})
    assert answer.status == 200, answer
    return epoch


async def resume(node: FleetNode, **body: Any) -> Answer:
    return await node.post("/api/tasks/t1/resume", body)


def test_a_task_waits_for_a_person_and_goes_on() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await parked(node, checkpoint={"step": 3}, usage={"input_tokens": 7})
        task = await node.task("t1")
        assert (task["status"], task["tries"], task["attempt"], task["agent_id"]) == ("waiting", 0, 1, None)
        waiting = task["waiting"]
        assert {name: waiting[name] for name in PLAN} == PLAN
        assert (waiting["since"], waiting["timeout_at"]) == (task["updated_at"], None)
        assert (waiting["on_timeout"], waiting["attempt"], waiting["agent_id"]) == ("resume", 1, "a1")
        assert task["usage"]["input_tokens"] == 7
        assert (await node.get("/api/agents/a1")).json["free_slots"] == 9
        assert (await node.beat("a1", epoch, running=[{"task_id": "t1", "attempt": 1}]))["lost"] == []
        await node.advance(600)
        assert (await node.task("t1"))["status"] == "waiting", "no lease runs"

        explained = (await node.get("/api/tasks/t1/explain")).json
        (reason,) = explained["reasons"]
        assert (reason["code"], reason["data"]["name"], reason["data"]["assignee"]) == ("waiting", "plan", "ann")

        answer = await resume(node, name="plan", data={"ok": True}, actor="ann")
        assert (answer.status, answer.json["status"], answer.json["waiting"]) == (200, "pending", None)
        assert (await resume(node, name="plan", data={"ok": True}, actor="ann")).json["revision"] == answer.json[
            "revision"
        ]
        second = await resume(node, name="plan", data={"ok": False}, actor="bob")
        assert (second.status, second.json["code"], second.json["current"]["resume"]["actor"]) == (
            409,
            "conflict",
            "ann",
        )
        assert second.json["current"]["resume"]["answered_at"].endswith("Z")
        (grant,) = await node.claim("a1", epoch)
        assert (grant["attempt"], grant["tries"], grant["checkpoint"]) == (2, 1, {"step": 3})
        resumed = grant["resume"]
        assert (resumed["kind"], resumed["name"], resumed["data"], resumed["actor"], resumed["timed_out"]) == (
            "approval",
            "plan",
            {"ok": True},
            "ann",
            False,
        )
        assert grant["resumes"] == [resumed]
        assert (await node.verb("wait", "t1", "a1", 1, **{"for": PLAN})).status == 200, "a repeat of what it won"
        stale = await node.verb("wait", "t1", "a1", 9, **{"for": PLAN})
        assert (stale.status, stale.json["code"], stale.json["current"]["attempt"]) == (409, "stale_attempt", 2)
        changes = (await node.get("/api/changes?from_revision=1&topics=task.t1")).json["items"]
        types = [change["type"] for message in changes for change in message["changes"]]
        assert types == ["task.created", "task.started", "task.waiting", "task.resumed", "task.started"]

    with_fleet(step)


def test_an_answer_before_its_wait_is_kept() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        early = await resume(node, name="push", data=[1])
        assert (early.status, early.json["status"]) == (200, "pending")
        nameless = await resume(node, data=1)
        assert (nameless.status, nameless.json["code"]) == (409, "conflict")
        await node.claim("a1", epoch)
        answer = await node.verb("wait", "t1", "a1", 1, **{"for": {"kind": "event", "name": "push"}})
        assert (answer.status, answer.json["status"]) == (200, "pending")
        (grant,) = await node.claim("a1", epoch)
        assert (grant["resume"]["name"], grant["resume"]["data"]) == ("push", [1])

    with_fleet(step)


def test_time_ends_waits() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await parked(node, wait_for={"kind": "time"}, timeout_ms=5_000)
        task = await node.task("t1")
        assert (task["waiting"]["name"], task["waiting"]["prompt"], task["waiting"]["options"]) == ("time", None, None)
        assert task["waiting"]["timeout_at"] is not None
        await parked(node, "t2", PLAN, timeout_ms=5_000, on_timeout="fail")
        await parked(node, "t3", PLAN, timeout_ms=5_000, on_timeout="cancel")
        await node.advance(4)
        assert (await node.task("t2"))["status"] == "waiting"
        await node.advance(1.2)
        assert [(await node.task(name))["status"] for name in ("t1", "t2", "t3")] == ["pending", "failed", "cancelled"]
        assert (await node.task("t2"))["failure"]["reason"] == "timeout"
        (grant,) = await node.claim("a1", epoch)
        assert (grant["resume"]["timed_out"], grant["resume"]["data"], grant["resume"]["actor"]) == (True, None, None)

    with_fleet(step)


def test_who_parked_a_task_is_preferred() -> None:
    async def step(node: FleetNode) -> None:
        await parked(node)
        await node.register("a0", max_concurrent=9)
        epochs = {name: (await node.get(f"/api/agents/{name}")).json["epoch"] for name in ("a0", "a1")}
        polls = {name: await node.poll(name, epoch) for name, epoch in epochs.items()}
        await node.submit("other")
        await until(polls["a0"].done)
        polls["a0"] = await node.poll("a0", epochs["a0"])
        await resume(node, data="yes")
        await until(polls["a1"].done)
        (offer,) = (await polls["a1"])["offers"]
        assert (offer["task_id"], offer["resume"]["data"], offer["attempt"]) == ("t1", "yes", 2)
        await node.verb("release", "t1", "a1", 2)
        await until(polls["a0"].done)
        offers = (await polls["a0"])["offers"]
        assert {offer["task_id"] for offer in offers} == {"other", "t1"}, "preferred, not for ever"

    with_fleet(step)


def test_lists_find_what_waits_for_what() -> None:
    async def step(node: FleetNode) -> None:
        await parked(node, "t1", PLAN)
        await parked(node, "t2", {"kind": "event", "name": "push"})
        await parked(node, "t3", {"kind": "event"})
        await node.submit("t4")

        async def found(query: str) -> list[str]:
            return [task["task_id"] for task in (await node.get(f"/api/tasks?{query}")).json["items"]]

        assert await found("waiting_for=approval") == ["t1"]
        assert await found("waiting_for=event") == ["t3", "t2"]
        assert await found("waiting_for=push,approval&order=asc") == ["t1", "t2"]
        assert await found("waiting_for=nothing") == []
        assert await found("status=waiting") == ["t3", "t2", "t1"]
        page = (await node.get("/api/tasks?status=waiting&limit=2")).json
        assert [task["task_id"] for task in page["items"]] == ["t3", "t2"]
        assert await found(f"status=waiting&limit=2&cursor={page['next_cursor']}") == ["t1"]

    with_fleet(step)


def test_batches_answer_item_by_item() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        for name in ("t1", "t2"):
            await node.submit(name)
        await node.claim("a1", epoch, limit=9)
        items = [
            {"task_id": "t1", "attempt": 1, "for": PLAN},
            {"task_id": "t2", "attempt": 5, "for": PLAN},
            {"task_id": "none", "attempt": 1, "for": PLAN},
        ]
        answer = await node.post("/api/tasks/wait?return=full", {"agent_id": "a1", "items": items})
        assert [(item["status"], item.get("code")) for item in answer.json["items"]] == [
            (200, None),
            (409, "stale_attempt"),
            (404, "not_found"),
        ]
        assert answer.json["items"][0]["body"]["waiting"]["name"] == "plan"
        answers = [{"task_id": "t1", "data": 1}, {"task_id": "t2"}, {"task_id": "t2", "name": "later"}]
        answer = await node.post("/api/tasks/resume", {"items": answers})
        assert [(item["status"], item.get("code")) for item in answer.json["items"]] == [
            (200, None),
            (409, "conflict"),
            (200, None),
        ]
        assert (await node.task("t1"))["status"] == "pending"

    with_fleet(step)


def test_a_resume_under_its_key_happens_once() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await parked(node, wait_for={"kind": "event", "name": "push"})
        key = {"Idempotency-Key": new_id()}
        body = {"name": "push", "data": 1}
        first = await node.post("/api/tasks/t1/resume", body, headers=key)
        await node.claim("a1", epoch)
        again = await node.post("/api/tasks/t1/resume", body, headers=key)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json["revision"] == first.json["revision"]
        answer = await node.verb("wait", "t1", "a1", 2, **{"for": {"kind": "event", "name": "push"}})
        assert answer.json["status"] == "waiting", "the repeat was not kept as another answer"

    with_fleet(step)


def test_a_waiting_task_is_cancelled_and_expires() -> None:
    async def step(node: FleetNode) -> None:
        await parked(node)
        assert (await node.ask("DELETE", "/api/tasks/t1")).json["status"] == "cancelled"
        assert (await resume(node, name="plan")).status == 409
        assert (await node.post("/api/tasks/none/resume", {})).status == 404
        await parked(node, "t2")
        await node.ask("PATCH", "/api/tasks/t2", {"deadline": "2026-01-01T00:00:00Z"})
        await node.advance(1)
        assert (await node.task("t2"))["status"] == "expired"

    with_fleet(step)


def test_the_note_of_who_hands_back_is_in_the_next_grant() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        await node.verb("release", "t1", "a1", 1, checkpoint={"at": 1}, message="tests are red")
        await node.advance(3)
        (grant,) = await node.claim("a1", epoch)
        assert (grant["checkpoint"], grant["progress"]["message"]) == ({"at": 1}, "tests are red")

    with_fleet(step)


def test_failed_tasks_are_redriven_by_filter_and_at_a_rate() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        for number in range(4):
            await node.submit(f"t{number}", queue="q" if number else "r", group_id="g")
        for grant in await node.claim("a1", epoch, limit=9):
            await node.verb("fail", grant["task_id"], "a1", 1, reason="rejected", retryable=False)
        nothing = await node.post("/api/tasks/retry", {"reason": "timeout", "limit": 10})
        assert (nothing.status, nothing.json["retried"], nothing.json["more"]) == (200, 0, False)
        key = {"Idempotency-Key": new_id()}
        body = {"queue": "q", "reason": "rejected", "group_id": "g", "limit": 2, "rate_per_second": 1}
        done = await node.post("/api/tasks/retry", body, headers=key)
        assert done.json == {"retried": 2, "more": False, "revision": done.json["revision"]}
        assert (await node.post("/api/tasks/retry", body, headers=key)).json == done.json
        statuses = [(await node.task(f"t{number}"))["status"] for number in range(4)]
        assert statuses == ["failed", "pending", "scheduled", "failed"]
        await node.advance(1.2)
        assert (await node.task("t2"))["status"] == "pending"
        assert (await node.get("/api/groups/g")).json["counts"] == {"failed": 2, "pending": 2}
        unknown = await node.post("/api/tasks/retry", {"limit": 1}, headers={"Hive-Project": "nowhere"})
        assert (unknown.status, unknown.json["code"]) == (404, "unknown_project")

    with_fleet(step)


def test_a_large_redrive_goes_on_by_itself() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=1_000)
        items = [{"task_id": f"t{number}", "max_attempts": 1} for number in range(300)]
        await node.post("/api/tasks/batch", {"items": items})
        while grants := await node.claim("a1", epoch, limit=1_000):
            failures = [{"task_id": grant["task_id"], "attempt": 1} for grant in grants]
            await node.post("/api/tasks/fail", {"agent_id": "a1", "items": failures})
        done = await node.post("/api/tasks/retry", {"limit": 299})
        assert (done.json["retried"], done.json["more"]) == (256, True)
        await node.advance(1)
        listed = (await node.get("/api/tasks?status=failed")).json["items"]
        assert [task["task_id"] for task in listed] == ["t299"]

    with_fleet(step)


def test_ended_tasks_and_sessions_are_removed_after_their_time() -> None:
    settings = DutySettings(
        ended_tasks_kept_ms=60_000, ended_sessions_kept_ms=60_000, retention_interval_ms=1_000, removed_per_batch=2
    )

    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        key = {"Idempotency-Key": new_id()}
        created = await node.post("/api/tasks", {"task_id": "t0"}, headers=key)
        for number in range(1, 5):
            await node.submit(f"t{number}", depends_on=["t0"] if number == 4 else [])
        await node.submit("t5", depends_on=["t1"], max_attempts=1)
        for _ in range(2):
            for grant in await node.claim("a1", epoch, limit=9):
                verb = "fail" if grant["task_id"] == "t5" else "complete"
                await node.verb(verb, grant["task_id"], "a1", 1)
        for session_id, status in (("s1", "completed"), ("s2", "archived"), ("s3", "active")):
            await node.post("/api/sessions", {"session_id": session_id})
            await node.ask("PATCH", f"/api/sessions/{session_id}", {"status": status})
        await node.advance(58)
        assert (await node.task("t0"))["status"] == "completed"
        assert (await node.get("/api/sessions/s1")).status == 200
        await node.post("/api/tasks/t5/retry")
        await node.advance(6)
        listed = (await node.get("/api/tasks")).json["items"]
        assert [task["task_id"] for task in listed] == ["t5", "t1"], "t5 may still want the result of t1"
        gone = await node.get("/api/tasks/t0")
        assert (gone.status, gone.json["code"]) == (404, "not_found")
        statuses = [(await node.get(f"/api/sessions/{name}")).status for name in ("s1", "s2", "s3")]
        assert statuses == [404, 200, 200]
        repeat = await node.post("/api/tasks", {"task_id": "t0"}, headers=key)
        assert (repeat.status, repeat.headers["Idempotency-Replayed"]) == (201, "true")
        assert repeat.json == {"id": "t0", "revision": created.json["revision"], "deleted": True}
        counts = (await node.get("/api/status/cluster")).json["counts"]["tasks"]
        assert {name: count for name, count in counts.items() if count} == {"pending": 1, "completed": 1}

    with_fleet(step, settings)


def test_only_so_many_ended_tasks_are_kept() -> None:
    settings = DutySettings(ended_tasks_kept_max=3, retention_interval_ms=1_000, removed_per_batch=4)

    async def step(node: FleetNode) -> None:
        for number in range(10):
            await node.submit(f"t{number}")
            await node.ask("DELETE", f"/api/tasks/t{number}")
        await node.advance(5)
        listed = (await node.get("/api/tasks")).json["items"]
        assert [task["task_id"] for task in listed] == ["t9", "t8", "t7"]

    with_fleet(step, settings)
