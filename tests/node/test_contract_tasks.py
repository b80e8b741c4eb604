"""API.md section 4, sentence by sentence, where no other test of this folder holds the sentence already.

Above each test stands the sentence in short.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.fleet_http import FleetNode, with_fleet
from tests.node.harness import Answer, until

USAGE = {"input_tokens": 10, "output_tokens": 4, "cost_usd": 0.5}
NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}


async def running(node: FleetNode, task_id: str = "t1", **fields: Any) -> int:
    """A task that a1 runs -> the agent's epoch."""
    epoch = await node.register("a1", max_concurrent=9)
    await node.submit(task_id, **fields)
    await node.claim("a1", epoch)
    return epoch


def stale(answer: Answer, **current: Any) -> None:
    assert (answer.status, answer.json["code"], answer.json["retry"]) == (409, "stale_attempt", "no"), answer
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert set(answer.json["current"]) == {"status", "attempt", "agent_id", "granted_at"}
    assert {name: answer.json["current"][name] for name in current} == current


# --- fields -----------------------------------------------------------------------------------------------------------


# The words high, medium and low mean 8, 5 and 2; 9 goes first.
def test_words_for_priorities() -> None:
    async def step(node: FleetNode) -> None:
        for word, number in {"high": 8, "medium": 5, "low": 2, 0: 0, 9: 9}.items():
            assert (await node.submit(f"p{number}", priority=word))["priority"] == number
        epoch = await node.register("a1", max_concurrent=9)
        grants = await node.claim("a1", epoch, limit=9)
        assert [grant["priority"] for grant in grants] == [9, 8, 5, 2, 0]

    with_fleet(step)


# Times come in with any offset, and go out in UTC with milliseconds; relative twins count from the leader's clock.
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"not_before": "2026-01-01T02:30:00+02:30"}, "2026-01-01T00:00:00.000Z"),
        ({"not_before": "2026-01-01T00:00:01.5Z"}, "2026-01-01T00:00:01.500Z"),
        ({"delay_ms": 1_500}, "2026-01-01T00:00:01.500Z"),
    ],
)
def test_times_in_and_out(given: dict[str, Any], shown: str) -> None:
    async def step(node: FleetNode) -> None:
        assert (await node.submit("t1", **given))["not_before"] == shown

    with_fleet(step)


# History keeps the last 20 transitions.
def test_history_has_the_last_twenty_transitions() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        for attempt in range(1, 15):
            await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch})
            await node.verb("release", "t1", "a1", attempt)
        history = (await node.task("t1"))["history"]
        assert len(history) == 20
        assert set(history[-1]) == {"at", "from", "to", "attempt", "agent_id", "reason"}
        assert (history[-1]["from"], history[-1]["to"], history[-1]["attempt"]) == ("running", "pending", 14)

    with_fleet(step)


# Usage is cumulative in an attempt, and the task shows the sum over its attempts.
def test_usage_is_summed_over_attempts_and_counted_once() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await running(node, backoff={"initial_ms": 0, "jitter": 0})
        failed = await node.verb("fail", "t1", "a1", 1, usage=USAGE)
        assert failed.json["usage"] == USAGE
        again = await node.verb("fail", "t1", "a1", 1, usage=USAGE)
        assert (again.status, again.json["usage"]) == (200, USAGE), "a repeat is not counted again"
        await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch})
        parked = await node.verb("wait", "t1", "a1", 2, **{"for": {"kind": "event"}}, usage=USAGE)
        assert parked.json["usage"] == {"input_tokens": 20, "output_tokens": 8, "cost_usd": 1.0}
        await node.post("/api/tasks/t1/resume", {"name": "event"})
        await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch})
        done = await node.verb("complete", "t1", "a1", 3, usage={"cost_usd": 0.25})
        assert done.json["usage"] == {"input_tokens": 20, "output_tokens": 8, "cost_usd": 1.25}

    with_fleet(step)


# Usage comes with what ends an attempt. A newer client that sends it along with progress keeps its lease, and is told.
def test_usage_elsewhere_is_ignored_and_named() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await running(node)
        for fields in ({"fraction": 0.5}, {"checkpoint": [1]}):
            told = await node.verb("progress", "t1", "a1", 1, **fields, usage=USAGE)
            assert (told.status, told.json["warnings"]) == (200, ["usage"])
        beat = await node.beat(
            "a1", epoch, running=[{"task_id": "t1", "attempt": 1, "progress": {"fraction": 0.75, "usage": USAGE}}]
        )
        assert beat["warnings"] == ["running[0].progress.usage"]
        assert (await node.get("/api/tasks/t1?live=true")).json["progress"]["fraction"] == 0.75
        released = await node.verb("release", "t1", "a1", 1, usage=USAGE)
        assert (released.status, released.json["warnings"]) == (200, ["usage"])
        assert released.json["usage"] == NO_USAGE

    with_fleet(step)


# A grant adds lease_remaining_ms, dependencies, checkpoint, resume, whichever way it came.
def test_every_grant_has_the_same_members() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=9)
        for name in ("offered", "claimed", "named"):
            await node.submit(name, session_id="s")
        (claimed,) = await node.claim("a1", epoch)
        named = (await node.post("/api/tasks/claimed/claim", {"agent_id": "a1", "epoch": epoch})).json
        (offer,) = (await (await node.poll("a1", epoch)))["offers"]
        accepted = (await node.verb("accept", offer["task_id"], "a1", offer["attempt"])).json
        plain = set(await node.task("named"))
        added = {"lease_remaining_ms", "dependencies", "checkpoint", "resume", "resumes"}
        assert set(named) == set(claimed) == set(accepted) == plain | added
        assert set(offer) == plain | added | {"offer_expires_in_ms"}
        assert {"attempt", "project"} <= plain

    with_fleet(step)


# --- submitting -------------------------------------------------------------------------------------------------------


# A cycle is refused, also within a batch, and none of it is made when the batch is atomic.
def test_a_cycle_is_refused() -> None:
    async def step(node: FleetNode) -> None:
        ring = [{"task_id": f"t{n}", "depends_on": [f"t{(n + 1) % 3}"]} for n in range(3)]
        plain = await node.post("/api/tasks/batch", {"items": [*ring, {"task_id": "good"}]})
        assert [item["status"] for item in plain.json["items"]] == [400, 400, 400, 201]
        atomic = await node.post("/api/tasks/batch", {"items": [*ring, {"task_id": "other"}], "atomic": True})
        assert (atomic.status, atomic.json["code"]) == (400, "invalid_request")
        assert atomic.json["errors"][0]["path"] in {f"items[{n}].depends_on[0]" for n in range(3)}
        assert (await node.get("/api/tasks/other")).status == 404

    with_fleet(step)


# A unique key is held until its task has ended.
def test_a_unique_key_is_free_again_after_the_end() -> None:
    async def step(node: FleetNode) -> None:
        await node.submit("first", unique_key="k")
        held = await node.post("/api/tasks", {"task_id": "second", "unique_key": "k"})
        assert (held.status, held.json["task_id"]) == (200, "first")
        assert (await node.get("/api/tasks/second")).status == 404
        batch = await node.post("/api/tasks/batch", {"items": [{"task_id": "third", "unique_key": "k"}]})
        assert [(item["status"], item["id"]) for item in batch.json["items"]] == [(200, "first")]
        await node.ask("DELETE", "/api/tasks/first")
        assert (await node.post("/api/tasks", {"task_id": "second", "unique_key": "k"})).status == 201

    with_fleet(step)


# --- reading ----------------------------------------------------------------------------------------------------------


# Each filter alone, several values of one, several filters at once; labels repeat.
def test_every_filter_of_the_list() -> None:
    async def step(node: FleetNode) -> None:
        await node.submit("a", queue="q1", type="x", group_id="g", session_id="s", unique_key="u")
        await node.advance(1)
        await node.submit("b", queue="q2", type="y", labels={"team": "red", "size": 3}, depends_on=["a"])
        await node.submit("c", labels={"team": "red"})
        epoch = await node.register("a1", max_concurrent=3)
        await node.post("/api/tasks/a/claim", {"agent_id": "a1", "epoch": epoch})
        await node.post("/api/tasks/c/claim", {"agent_id": "a1", "epoch": epoch})
        await node.verb("wait", "c", "a1", 1, **{"for": {"kind": "approval", "name": "ship"}})

        async def ids(query: str) -> str:
            answer = await node.get(f"/api/tasks?{query}")
            assert answer.status == 200, answer
            return "".join(item["task_id"] for item in answer.json["items"])

        expected = {
            "": "cba",
            "order=asc": "abc",
            "status=running": "a",
            "status=running,blocked": "ba",
            "queue=q1": "a",
            "queue=q1,q2": "ba",
            "type=y": "b",
            "agent_id=a1": "a",
            "session_id=s": "a",
            "group_id=g": "a",
            "unique_key=u": "a",
            "depends_on=a": "b",
            "label=team%3Dred": "cb",
            "label=team%3Dred&label=size%3D3": "b",
            "label=team%3Dblue": "",
            "waiting_for=approval": "c",
            "waiting_for=ship": "c",
            "waiting_for=event": "",
            "created_since=2026-01-01T00:00:01Z": "cb",
            "created_since=2026-01-01T01:00:01%2B01:00": "cb",
            "updated_since=2026-01-01T00:00:01Z": "cba",
            "updated_since=2026-01-01T00:00:02Z": "",
            "ids=a,c,nowhere": "ca",
            "ids=a,c&status=running": "a",
            "queue=q1&type=y": "",
        }
        assert {query: await ids(query) for query in expected} == expected
        trimmed = (await node.get("/api/tasks?fields=task_id,status&ids=a")).json["items"]
        assert trimmed == [{"task_id": "a", "status": "running"}]

    with_fleet(step)


# A read that waits costs no log entry, and answers with whatever there is when its time is over.
@pytest.mark.parametrize(("wanted", "ends_at"), [("started", "running"), ("ended", "completed")])
def test_waiting_for_a_task_reads_only(wanted: str, ends_at: str) -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        index = node.replica.index
        late = await node.get(f"/api/tasks/t1?until={wanted}&wait_ms=1")
        assert (late.status, late.json["status"]) == (200, "pending")
        waiting = asyncio.create_task(node.get(f"/api/tasks/t1?until={wanted}&wait_ms=30000"))
        await until(lambda: bool(node.api.wakeups.waiting))
        assert node.replica.index == index
        await node.claim("a1", epoch)
        if wanted == "ended":
            assert not waiting.done()
            await node.verb("complete", "t1", "a1", 1)
        assert (await waiting).json["status"] == ends_at
        assert (await node.get(f"/api/tasks/t1?until={wanted}&wait_ms=30000")).json["status"] == ends_at, "at once"

    with_fleet(step)


# A group ends its wait when a task fails, or when all have ended; it counts, and names the failed.
def test_waiting_for_a_group() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        for name in ("t1", "t2"):
            await node.submit(name, group_id="g", max_attempts=1)
        await node.claim("a1", epoch, limit=2)
        first = asyncio.create_task(node.get("/api/groups/g?until=any_failed&wait_ms=30000"))
        last = asyncio.create_task(node.get("/api/groups/g?until=ended&wait_ms=30000"))
        await until(lambda: node.api.wakeups.waiting == 2)
        failed = await node.verb("fail", "t1", "a1", 1)
        told = (await first).json
        assert (told["counts"], told["failed"], told["ended"]) == ({"running": 1, "failed": 1}, ["t1"], False)
        assert told["revision"] == failed.json["revision"]
        assert not last.done()
        await node.verb("complete", "t2", "a1", 1)
        assert (await last).json["ended"] is True
        assert (await node.ask("DELETE", "/api/groups/g")).json["cancelled"] == 0
        assert (await node.get("/api/groups/nowhere")).status == 404

    with_fleet(step)


# --- grants -----------------------------------------------------------------------------------------------------------


# A claim gives at once up to the free slots, from the queues it names, and nothing is a 200.
def test_claims_by_queue_and_slots() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        for queue in ("q1", "q1", "q2", "q3", "q3"):
            await node.post("/api/tasks", {"queue": queue})
        empty = await node.post("/api/tasks/claim", {"agent_id": "a1", "epoch": epoch, "queues": ["q9"]})
        assert (empty.status, empty.json) == (200, {"items": []})
        grants = await node.claim("a1", epoch, limit=2, queues=["q2", "q3"], lease_ms=9_000)
        assert {grant["queue"] for grant in grants} <= {"q2", "q3"}
        assert [(grant["status"], grant["attempt"], grant["tries"]) for grant in grants] == [("running", 1, 1)] * 2
        assert [grant["lease_remaining_ms"] for grant in grants] == [9_000] * 2
        assert len(await node.claim("a1", epoch, limit=9)) == 1, "three slots"
        assert await node.claim("a1", epoch, limit=9) == []

    with_fleet(step)


# One named task, or 409 with what stands in the way; also the way back for late work.
def test_claim_of_one_task() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await running(node, lease_ms=5_000, max_attempts=2, backoff={"initial_ms": 60_000, "jitter": 0})
        other = await node.register("a2")
        taken = await node.post("/api/tasks/t1/claim", {"agent_id": "a2", "epoch": other})
        assert (taken.status, taken.json["code"]) == (409, "conflict")
        assert (taken.json["current"]["agent_id"], taken.json["current"]["attempt"]) == ("a1", 1)
        await node.advance(6)
        assert (await node.task("t1"))["status"] == "scheduled"
        stale(await node.verb("complete", "t1", "a1", 1, result=1), status="scheduled", attempt=1)
        back = await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch, "lease_ms": 7_000})
        assert (back.status, back.json["attempt"], back.json["lease_remaining_ms"]) == (200, 2, 7_000)
        done = await node.verb("complete", "t1", "a1", 2, result=1)
        assert (done.status, done.json["status"], done.json["result"]) == (200, "completed", 1)
        over = await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch})
        assert (over.status, over.json["current"]["status"]) == (409, "completed")
        assert (await node.post("/api/tasks/nowhere/claim", {"agent_id": "a1", "epoch": epoch})).status == 404

    with_fleet(step)


# By hand: 409 agent_unavailable says why, and nothing changes.
def test_assigning_by_hand_says_why_not() -> None:
    async def step(node: FleetNode) -> None:
        await node.post("/api/projects", {"project": "p1"})
        full = await node.register("full")
        elsewhere = await node.register("other-project", projects=["p1"])
        draining = await node.register("draining")
        await node.post("/api/agents/draining/drain")
        await node.register("silent")
        await node.submit("busy-with")
        await node.advance(14)
        for name, epoch in (("full", full), ("other-project", elsewhere), ("draining", draining)):
            await node.beat(name, epoch)
        await node.post("/api/tasks/busy-with/claim", {"agent_id": "full", "epoch": full})
        await node.advance(3)
        await node.submit("t1")
        revision = node.replica.revision
        found = {}
        for name in ("full", "other-project", "draining", "silent", "nobody"):
            answer = await node.ask("PUT", "/api/tasks/t1/assign", {"agent_id": name})
            assert (answer.status, answer.json["code"]) == (409, "agent_unavailable")
            found[name] = answer.json["why"]
        assert found == {
            "full": "no_slot", "other-project": "project", "draining": "draining", "silent": "offline",
            "nobody": "unknown",
        }  # fmt: skip
        assert node.replica.revision == revision
        assert (await node.task("t1"))["attempt"] == 0

    with_fleet(step)
