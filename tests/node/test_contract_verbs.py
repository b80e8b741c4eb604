"""API.md section 4 on what the holder of a task may say, sentence by sentence, where no other test of this folder holds
the sentence already.

Above each test stands the sentence in short.
"""

from __future__ import annotations

from typing import Any

import pytest

from node.duties.settings import DutySettings
from tests.node.fleet_http import FleetNode, with_fleet
from tests.node.test_contract_tasks import running, stale

# --- the holder's verbs -----------------------------------------------------------------------------------------------


# agent_id and attempt always.
@pytest.mark.parametrize("verb", ["accept", "renew", "progress", "complete", "fail", "release", "wait"])
def test_agent_and_attempt_are_wanted_by_every_verb(verb: str) -> None:
    async def step(node: FleetNode) -> None:
        index = node.replica.index
        rest = {"for": {"kind": "event"}} if verb == "wait" else {}
        for body, path in (({"attempt": 1}, "agent_id"), ({"agent_id": "a1"}, "attempt")):
            answer = await node.post(f"/api/tasks/t1/{verb}", {**body, **rest})
            assert (answer.status, answer.json["errors"][0]["path"]) == (400, path)
        batch = await node.post(f"/api/tasks/{verb}", {"agent_id": "a1", "items": [{"attempt": 1, **rest}]})
        assert (batch.status, batch.json["errors"][0]["path"]) == (400, "items[0].task_id")
        assert node.replica.index == index

    with_fleet(step)


# A verb is accepted while the task is assigned too: it takes the offer, and goes on.
@pytest.mark.parametrize(
    ("verb", "fields", "status", "tries"),
    [
        ("complete", {"result": 1}, "completed", 1),
        ("fail", {"retryable": False}, "failed", 1),
        ("progress", {"checkpoint": [1]}, "running", 1),
        ("wait", {"for": {"kind": "event"}}, "waiting", 0),
        ("release", {}, "pending", 0),
        ("renew", {}, "assigned", 0),
    ],
)
def test_verbs_on_an_offer(verb: str, fields: dict[str, Any], status: str, tries: int) -> None:
    async def step(node: FleetNode) -> None:
        await node.register("a1")
        await node.submit("t1")
        await node.ask("PUT", "/api/tasks/t1/assign", {"agent_id": "a1"})
        answer = await node.verb(verb, "t1", "a1", 1, **fields)
        assert answer.status == 200, answer
        task = await node.task("t1")
        assert (task["status"], task["tries"], task["attempt"]) == (status, tries, 1)

    with_fleet(step)


# Repeating what this attempt already won: the same answer, also when the next attempt has begun, also in batches.
@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("complete", {"result": {"n": 1}}),
        ("fail", {"reason": "error", "message": "m"}),
        ("release", {"checkpoint": [1], "message": "note"}),
        ("wait", {"for": {"kind": "event", "name": "go"}}),
    ],
)
def test_a_repeat_is_answered_again_and_changes_nothing(verb: str, fields: dict[str, Any]) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await running(node)
        first = await node.verb(verb, "t1", "a1", 1, **fields)
        revision = node.replica.revision
        again = await node.verb(verb, "t1", "a1", 1, **fields)
        assert (first.status, again.status) == (200, 200)
        assert again.json == first.json
        body = {"agent_id": "a1", "items": [{"task_id": "t1", "attempt": 1, **fields}]}
        (item,) = (await node.post(f"/api/tasks/{verb}", body)).json["items"]
        assert (item["status"], item["id"], item["revision"]) == (200, "t1", first.json["revision"])
        assert node.replica.revision == revision
        stale(await node.verb(verb, "t1", "a2", 1, **fields))
        if verb in {"complete", "wait"}:
            return
        await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch})
        late = await node.verb(verb, "t1", "a1", 1, **fields)
        assert (late.status, late.json["attempt"], late.json["revision"]) == (200, 1, first.json["revision"])
        now = await node.task("t1")
        assert (now["status"], now["attempt"]) == ("running", 2), "which goes on"

    with_fleet(step)


# To win with one verb is not to win with another.
def test_another_verb_of_an_attempt_that_is_over_is_stale() -> None:
    async def step(node: FleetNode) -> None:
        await running(node)
        await node.verb("complete", "t1", "a1", 1)
        for verb in ("fail", "release", "renew", "progress", "accept"):
            stale(await node.verb(verb, "t1", "a1", 1), status="completed", attempt=1, agent_id="a1")
        stale(await node.verb("wait", "t1", "a1", 1, **{"for": {"kind": "event"}}), status="completed")

    with_fleet(step)


# Batch forms of every verb answer item by item, in order, each refusal with the members of its problem.
@pytest.mark.parametrize("verb", ["accept", "renew", "progress", "complete", "fail", "release", "wait"])
def test_batches_of_every_verb(verb: str) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        for name in ("t1", "t2"):
            await node.submit(name)
        await node.claim("a1", epoch, limit=2)
        rest = {"for": {"kind": "event"}} if verb == "wait" else {}
        named = [("t1", 1), ("t2", 7), ("nowhere", 1)]
        items = [{"task_id": name, "attempt": attempt, **rest} for name, attempt in named]
        answer = await node.post(f"/api/tasks/{verb}", {"agent_id": "a1", "epoch": epoch, "items": items})
        assert answer.status == 200, answer
        good, old, unknown = answer.json["items"]
        assert [(item["status"], item["id"]) for item in (good, old, unknown)] == [
            (200, "t1"), (409, "t2"), (404, "nowhere"),
        ]  # fmt: skip
        assert (old["code"], old["retry"], unknown["code"]) == ("stale_attempt", "no", "not_found")
        assert old["current"]["attempt"] == 1
        assert old["detail"]
        assert answer.json["revision"] == node.replica.revision
        wrong_epoch = {"agent_id": "a1", "epoch": epoch + 1, "items": items}
        refused = await node.post(f"/api/tasks/{verb}", wrong_epoch)
        assert (refused.status, refused.json["code"]) == (409, "stale_epoch")
        assert refused.json["current"] == {"epoch": epoch}

    with_fleet(step)


# DELETE: cancelled at once, again 200, ended otherwise 409; the slot is free when the agent confirms.
def test_deleting_tasks_in_every_state() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        for name in ("pending", "running", "waiting", "done", "failed", "assigned"):
            await node.submit(name, max_attempts=1)
        await node.submit("scheduled", delay_ms=9_000)
        await node.submit("blocked", depends_on=["pending"])
        for name in ("running", "waiting", "done", "failed"):
            await node.post(f"/api/tasks/{name}/claim", {"agent_id": "a1", "epoch": epoch})
        await node.verb("wait", "waiting", "a1", 1, **{"for": {"kind": "event"}})
        await node.verb("complete", "done", "a1", 1)
        await node.verb("fail", "failed", "a1", 1)
        await node.ask("PUT", "/api/tasks/assigned/assign", {"agent_id": "a1"})
        for name in ("blocked", "scheduled", "pending", "assigned", "running", "waiting"):
            first = await node.ask("DELETE", f"/api/tasks/{name}")
            again = await node.ask("DELETE", f"/api/tasks/{name}")
            assert (first.status, first.json["status"], again.status) == (200, "cancelled", 200), name
            assert again.json["revision"] == first.json["revision"]
        for name, status in (("done", "completed"), ("failed", "failed")):
            refused = await node.ask("DELETE", f"/api/tasks/{name}")
            assert (refused.status, refused.json["code"]) == (409, "conflict")
            assert refused.json["current"]["status"] == status
        assert (await node.ask("DELETE", "/api/tasks/nowhere")).status == 404
        confirmed = await node.verb("release", "running", "a1", 1)
        assert (confirmed.status, confirmed.json["status"]) == (200, "cancelled")
        held = (await node.get("/api/agents/a1")).json["current_tasks"]
        assert [task["task_id"] for task in held] == [], "an offer that nobody took holds nothing"

    with_fleet(step)


# --- hand-over and follow-ups -----------------------------------------------------------------------------------------


# A note that is given with a hand-back is shown to whoever takes the task next, until that one says something itself.
def test_hand_over_notes() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await running(node)
        await node.verb("release", "t1", "a1", 1, checkpoint={"page": 4}, message="page 4 has no title")
        (grant,) = await node.claim("a1", epoch)
        assert grant["progress"]["message"] == "page 4 has no title"
        assert grant["checkpoint"] == {"page": 4}
        await node.verb("progress", "t1", "a1", 2, message="title made up", checkpoint={"page": 5})
        assert (await node.task("t1"))["progress"]["message"] == "title made up"

    with_fleet(step)


# New tasks and session events come with a completion in the same entry.
def test_follow_ups_happen_with_the_completion() -> None:
    async def step(node: FleetNode) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        await running(node, session_id="s1")
        index = node.replica.index
        follow_ups = [
            {"task_id": "next", "depends_on": ["t1"]},
            {"task_id": "after", "depends_on": ["next"], "session_id": "s1"},
            {"title": "nameless"},
        ]
        events = [{"type": "custom.done", "data": {"n": 1}}, {"type": "custom.more", "session_id": "s1"}]
        done = await node.verb("complete", "t1", "a1", 1, tasks=follow_ups, events=events)
        assert done.status == 200, done
        assert node.replica.index == index + 1, "one entry"
        assert (await node.task("next"))["status"] == "pending"
        assert (await node.task("after"))["status"] == "blocked"
        assert len((await node.get("/api/tasks")).json["items"]) == 4
        log = (await node.get("/api/sessions/s1/events")).json
        assert [(event["seq"], event["type"]) for event in log["items"]] == [(1, "custom.done"), (2, "custom.more")]
        revisions = {(await node.task(name))["created_revision"] for name in ("next", "after")}
        assert revisions | {event["revision"] for event in log["items"]} == {done.json["revision"]}
        again = await node.verb("complete", "t1", "a1", 1, tasks=follow_ups, events=events)
        assert (again.status, again.json["revision"]) == (200, done.json["revision"])
        assert len((await node.get("/api/tasks")).json["items"]) == 4, "a repeat makes nothing anew"
        assert (await node.get("/api/sessions/s1")).json["last_seq"] == 2

    with_fleet(step)


# A follow-up that is refused refuses the completion, which then has changed nothing.
@pytest.mark.parametrize(
    ("extra", "status", "code"),
    [
        ({"tasks": [{"task_id": "new"}, {"depends_on": ["nowhere"]}]}, 400, "invalid_request"),
        ({"tasks": [{"task_id": "new"}, {"task_id": "taken", "title": "other"}]}, 409, "exists"),
        ({"tasks": [{"task_id": n, "depends_on": [m]} for n, m in ("xy", "yx")]}, 400, "invalid_request"),
        ({"tasks": [{"task_id": "new"}], "events": [{"type": "custom.x", "session_id": "nowhere"}]}, 404, "not_found"),
        ({"tasks": [{"task_id": "new"}], "events": [{"type": "custom.x", "session_id": "over"}]}, 409, "conflict"),
    ],
)  # fmt: skip
def test_a_refused_follow_up_refuses_the_completion(extra: dict[str, Any], status: int, code: str) -> None:
    async def step(node: FleetNode) -> None:
        await node.submit("taken", not_before="2027-01-01T00:00:00Z")
        await node.post("/api/sessions", {"session_id": "over"})
        await node.ask("PATCH", "/api/sessions/over", {"status": "completed"})
        await running(node)
        before, revision = await node.task("t1"), node.replica.revision
        single = await node.verb("complete", "t1", "a1", 1, result=1, **extra)
        assert (single.status, single.json["code"]) == (status, code), single
        batch = await node.post(
            "/api/tasks/complete", {"agent_id": "a1", "items": [{"task_id": "t1", "attempt": 1, **extra}]}
        )
        assert [(item["status"], item["code"]) for item in batch.json["items"]] == [(status, code)]
        assert node.replica.revision == revision
        assert await node.task("t1") == before
        assert (await node.get("/api/tasks/new")).status == 404
        assert (await node.verb("complete", "t1", "a1", 1)).status == 200, "it is still its own"

    with_fleet(step)


# In a batch each completion brings its own, and one that is refused keeps nobody from the others.
def test_follow_ups_in_batches() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        await node.post("/api/sessions", {"session_id": "s1"})
        for name in ("t1", "t2", "t3"):
            await node.submit(name, session_id="s1")
        await node.claim("a1", epoch, limit=3)
        event = {"type": "custom.done"}
        items = [
            {"task_id": "t1", "attempt": 1, "tasks": [{"task_id": "n1"}], "events": [event]},
            {"task_id": "t2", "attempt": 1, "tasks": [{"task_id": "n1", "title": "another"}], "events": [event]},
            {"task_id": "t3", "attempt": 1, "tasks": [{"task_id": "n3", "depends_on": ["n1"]}], "events": [event]},
        ]
        answer = await node.post("/api/tasks/complete", {"agent_id": "a1", "items": items})
        assert [item["status"] for item in answer.json["items"]] == [200, 409, 200]
        shown = [(await node.task(name))["status"] for name in ("t1", "t2", "t3")]
        assert shown == ["completed", "running", "completed"]
        assert (await node.task("n3"))["status"] == "blocked"
        assert (await node.get("/api/sessions/s1")).json["last_seq"] == 2

    with_fleet(step)


# --- changes of a task ------------------------------------------------------------------------------------------------


# if_revision: only if nobody changed it since; refused with what is there now.
def test_patch_with_if_revision() -> None:
    async def step(node: FleetNode) -> None:
        first = await node.submit("t1")
        good = await node.ask("PATCH", "/api/tasks/t1", {"priority": 7, "if_revision": first["revision"]})
        assert (good.status, good.json["priority"]) == (200, 7)
        late = await node.ask("PATCH", "/api/tasks/t1", {"priority": 1, "if_revision": first["revision"]})
        assert (late.status, late.json["code"]) == (409, "conflict")
        assert late.json["current"]["revision"] == good.json["revision"]
        assert (await node.task("t1"))["priority"] == 7

    with_fleet(step)


# Failed tasks are redriven: by id, or by filter. What has not failed is 409, what nobody knows 404.
def test_redriving_one() -> None:
    async def step(node: FleetNode) -> None:
        await running(node, max_attempts=1)
        early = await node.post("/api/tasks/t1/retry")
        assert (early.status, early.json["code"], early.json["current"]["status"]) == (409, "conflict", "running")
        await node.verb("fail", "t1", "a1", 1, reason="rejected", message="no")
        failed = await node.task("t1")
        assert failed["failure"] == {
            "reason": "rejected", "message": "no", "attempt": 1, "at": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip
        again = (await node.post("/api/tasks/t1/retry")).json
        assert (again["status"], again["tries"], again["attempt"], again["failure"]) == ("pending", 0, 1, None)
        assert (await node.post("/api/tasks/nowhere/retry")).status == 404

    with_fleet(step)


# Hive-Fence guards any write by an attempt or an epoch.
@pytest.mark.parametrize(
    ("fence", "status", "code"),
    [
        ("task/t1/1", 201, ""),
        ("task/t1/2", 409, "stale_attempt"),
        ("task/nowhere/1", 409, "stale_attempt"),
        ("agent/a1/{epoch}", 201, ""),
        ("agent/a1/0", 409, "stale_epoch"),
        ("agent/nobody/1", 409, "stale_epoch"),
    ],
)
def test_fences(fence: str, status: int, code: str) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await running(node)
        headers = {"Hive-Fence": fence.format(epoch=epoch)}
        answer = await node.post("/api/tasks", {"task_id": "x"}, headers=headers)
        assert (answer.status, answer.json.get("code", "")) == (status, code), answer
        assert ((await node.get("/api/tasks/x")).status == 200) == (status == 201)
        if code:
            assert "current" in answer.json

    with_fleet(step)


# A repeat under a key whose task is gone is told so, and is no failure.
def test_a_repeat_after_the_task_is_gone() -> None:
    settings = DutySettings(ended_tasks_kept_ms=1_000, retention_interval_ms=1_000)

    async def step(node: FleetNode) -> None:
        await node.register("a1")
        await node.submit("t1")
        await node.ask("PUT", "/api/tasks/t1/assign", {"agent_id": "a1"})
        body = {"agent_id": "a1", "attempt": 1}
        accepted, done = [
            await node.post(f"/api/tasks/t1/{verb}", body, headers={"Idempotency-Key": verb})
            for verb in ("accept", "complete")
        ]
        again = await node.post("/api/tasks/t1/accept", body, headers={"Idempotency-Key": "accept"})
        assert (again.status, again.json["attempt"], again.json["lease_remaining_ms"]) == (200, 1, None)
        await node.advance(5)
        assert (await node.get("/api/tasks/t1")).status == 404
        for verb, first in (("accept", accepted), ("complete", done)):
            late = await node.post(f"/api/tasks/t1/{verb}", body, headers={"Idempotency-Key": verb})
            assert late.json == {"id": "t1", "revision": first.json["revision"], "deleted": True}
            assert (late.status, late.headers["Idempotency-Replayed"]) == (200, "true")

    with_fleet(step, settings)
