"""A task's life through HTTP: over offers, over claims, through failure, cancellation and time."""

from __future__ import annotations

import asyncio

from tests.node.fleet_http import FleetNode, with_fleet
from tests.node.harness import until


def test_life_over_an_offer() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", capabilities=[{"name": "python", "proficiency": 0.9}])
        poll = await node.poll("a1", epoch)
        assert not poll.done()
        await node.submit(
            "t1", payload={"x": 1}, requires=[{"name": "python", "min_proficiency": 0.5}], lease_ms=30_000
        )
        answer = await poll
        (offer,) = answer["offers"]
        assert offer["task_id"] == "t1"
        assert offer["attempt"] == 1
        assert offer["payload"] == {"x": 1}
        assert offer["project"] == "default"
        assert offer["status"] == "assigned"
        assert 0 < offer["offer_expires_in_ms"] <= 5_000
        assert offer["lease_remaining_ms"] == 30_000
        assert offer["dependencies"] == []
        assert offer["checkpoint"] is None
        assert offer["resume"] is None
        assert answer["drain"] is False
        assert answer["durable"] is False
        assert answer["inbox"] == {"unread": 0, "high": 0}

        accepted = await node.verb("accept", "t1", "a1", 1, epoch=epoch)
        assert accepted.status == 200
        assert accepted.json["status"] == "running"
        assert accepted.json["lease_remaining_ms"] == 30_000
        again = await node.verb("accept", "t1", "a1", 1)
        assert again.status == 200
        assert again.json["revision"] == accepted.json["revision"]
        assert again.json["lease_remaining_ms"] == 30_000

        done = await node.verb(
            "complete", "t1", "a1", 1, result={"ok": True}, usage={"input_tokens": 3, "cost_usd": 0.25}
        )
        assert done.status == 200
        assert done.json["status"] == "completed"
        assert done.json["result"] == {"ok": True}
        assert done.json["usage"] == {"input_tokens": 3, "output_tokens": 0, "cost_usd": 0.25}
        assert [line["to"] for line in done.json["history"]] == ["assigned", "running", "completed"]
        assert (await node.verb("complete", "t1", "a1", 1, result={"ok": True})).json["revision"] == done.json[
            "revision"
        ]

    with_fleet(step)


def test_life_over_a_claim() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        for number in range(3):
            await node.submit(f"t{number}", priority=number)
        grants = await node.claim("a1", epoch, limit=10, lease_ms=20_000)
        assert [(grant["task_id"], grant["attempt"], grant["status"]) for grant in grants] == [
            ("t2", 1, "running"),
            ("t1", 1, "running"),
        ]
        assert grants[0]["lease_remaining_ms"] == 20_000
        assert await node.claim("a1", epoch) == []
        assert (await node.verb("complete", "t2", "a1", 1)).status == 200
        (grant,) = await node.claim("a1", epoch, limit=5)
        assert grant["task_id"] == "t0"

    with_fleet(step)


def test_claim_waits_for_work() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        waiting = asyncio.create_task(node.claim("a1", epoch, wait_ms=30_000))
        await until(lambda: node.leadership.claims_waiting == 1)
        await node.submit("t1")
        (grant,) = await waiting
        assert grant["task_id"] == "t1"
        late = asyncio.create_task(node.claim("a1", epoch, wait_ms=3_000))
        await until(lambda: node.leadership.claims_waiting == 1)
        await node.advance(3)
        assert await late == []

    with_fleet(step)


def test_claim_of_a_client_that_left_takes_nothing() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        waiting = asyncio.create_task(node.claim("a1", epoch, wait_ms=30_000))
        await until(lambda: node.leadership.claims_waiting == 1)
        waiting.cancel()
        await until(lambda: not node.api.wakeups.waiting)
        await node.submit("t1")
        await node.advance(4)
        assert (await node.task("t1"))["status"] == "pending"
        (grant,) = await node.claim("a1", epoch)
        assert grant["attempt"] == 1

    with_fleet(step)


def test_two_workers_race_for_one_task() -> None:
    async def step(node: FleetNode) -> None:
        epochs = {name: await node.register(name) for name in ("a1", "a2")}
        await node.submit("t1")
        results = await asyncio.gather(*(node.claim(name, epoch) for name, epoch in epochs.items()))
        assert sorted(len(grants) for grants in results) == [0, 1]
        named = [
            await node.post("/api/tasks/t1/claim", {"agent_id": name, "epoch": epoch}) for name, epoch in epochs.items()
        ]
        assert [answer.status for answer in named] == [409, 409]
        assert named[0].json["code"] == "conflict"
        assert named[0].json["current"]["status"] == "running"

    with_fleet(step)


def test_failed_attempt_comes_again_after_its_backoff() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        backoff = {"initial_ms": 2_000, "factor": 2, "max_ms": 60_000, "jitter": 0}
        await node.submit("t1", max_attempts=2, backoff=backoff)
        await node.claim("a1", epoch)
        failed = await node.verb("fail", "t1", "a1", 1, reason="error", message="broken")
        assert failed.json["status"] == "scheduled"
        assert failed.json["failure"]["reason"] == "error"
        assert failed.json["failure"]["message"] == "broken"
        assert failed.json["failure"]["attempt"] == 1
        assert await node.claim("a1", epoch) == []
        await node.advance(1.9)
        assert (await node.task("t1"))["status"] == "scheduled"
        await node.advance(0.2)
        assert (await node.task("t1"))["status"] == "pending"
        (grant,) = await node.claim("a1", epoch)
        assert grant["attempt"] == 2
        last = await node.verb("fail", "t1", "a1", 2)
        assert last.json["status"] == "failed"
        assert last.json["tries"] == 2
        redriven = await node.post("/api/tasks/t1/retry")
        assert redriven.status == 200
        assert redriven.json["status"] == "pending"
        assert redriven.json["tries"] == 0
        assert (await node.post("/api/tasks/t1/retry")).json["code"] == "conflict"

    with_fleet(step)


def test_not_retryable_fails_at_once() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        assert (await node.verb("fail", "t1", "a1", 1, retryable=False)).json["status"] == "failed"

    with_fleet(step)


def test_lease_runs_out() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1", lease_ms=10_000, backoff={"initial_ms": 0, "jitter": 0})
        await node.claim("a1", epoch)
        await node.advance(8)
        renewed = await node.verb("renew", "t1", "a1", 1, epoch=epoch)
        assert renewed.json == {"task_id": "t1", "attempt": 1, "lease_remaining_ms": 10_000, "durable": False}
        await node.advance(8)
        assert (await node.task("t1"))["status"] == "running"
        await node.advance(3)
        task = await node.task("t1")
        assert task["status"] in {"scheduled", "pending"}
        assert task["failure"]["reason"] == "lease_lost"
        late = await node.verb("complete", "t1", "a1", 1)
        assert late.status == 409
        assert late.json["code"] == "stale_attempt"
        back = await node.post("/api/tasks/t1/claim", {"agent_id": "a1", "epoch": epoch})
        assert back.status == 200, back
        assert (await node.verb("complete", "t1", "a1", back.json["attempt"])).status == 200

    with_fleet(step)


def test_progress_and_checkpoint() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        light = await node.verb("progress", "t1", "a1", 1, fraction=0.25, message="reading", later=1)
        assert light.json["durable"] is False
        assert light.json["warnings"] == ["later"]
        assert (await node.task("t1"))["progress"]["fraction"] is None
        live = (await node.get("/api/tasks/t1?live=true")).json
        assert live["progress"] == {"fraction": 0.25, "message": "reading", "checkpoint": None}
        assert live["live"]["lease_remaining_ms"] == 60_000
        assert live["live"]["as_of"].endswith("Z")
        kept = await node.verb("progress", "t1", "a1", 1, fraction=0.5, checkpoint={"page": 7})
        assert kept.json["durable"] is True
        assert (await node.task("t1"))["progress"]["checkpoint"] == {"page": 7}
        assert (await node.task("t1"))["progress"]["fraction"] == 0.5
        assert (await node.verb("release", "t1", "a1", 1, checkpoint={"page": 8})).json["tries"] == 0
        (grant,) = await node.claim("a1", epoch)
        assert grant["checkpoint"] == {"page": 8}
        assert grant["attempt"] == 2

    with_fleet(step)


def test_cancellation_is_confirmed_by_release() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        cancelled = await node.ask("DELETE", "/api/tasks/t1")
        assert cancelled.status == 200
        assert cancelled.json["status"] == "cancelled"
        assert (await node.ask("DELETE", "/api/tasks/t1")).status == 200
        assert (await node.get("/api/agents/a1")).json["free_slots"] == 0
        refused = await node.verb("complete", "t1", "a1", 1)
        assert refused.json["current"]["status"] == "cancelled"
        assert (await node.verb("renew", "t1", "a1", 1)).json["code"] == "stale_attempt"
        assert (await node.verb("release", "t1", "a1", 1)).status == 200
        assert (await node.get("/api/agents/a1")).json["free_slots"] == 1

    with_fleet(step)


def test_cancelled_task_frees_its_slot_when_the_lease_ends() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1", lease_ms=5_000)
        await node.claim("a1", epoch)
        await node.ask("DELETE", "/api/tasks/t1")
        await node.beat("a1", epoch, running=[{"task_id": "t1", "attempt": 1}])
        await node.advance(6)
        assert (await node.get("/api/agents/a1")).json["free_slots"] == 1
        assert (await node.task("t1"))["status"] == "cancelled"

    with_fleet(step)


def test_time_ends_tasks() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=3)
        await node.submit("delayed", delay_ms=10_000)
        await node.submit("unstarted", expires_unstarted_ms=5_000, requires=[{"name": "nobody"}])
        await node.submit("deadline", deadline_in_ms=7_000, requires=[{"name": "nobody"}])
        await node.submit("slow", run_timeout_ms=3_000, max_attempts=1)
        assert (await node.task("delayed"))["status"] == "scheduled"
        assert [grant["task_id"] for grant in await node.claim("a1", epoch, limit=3)] == ["slow"]
        await node.advance(4)
        slow = await node.task("slow")
        assert (slow["status"], slow["failure"]["reason"]) == ("failed", "timeout")
        await node.advance(2)
        unstarted = await node.task("unstarted")
        assert (unstarted["status"], unstarted["failure"]["reason"]) == ("expired", "never_started")
        await node.advance(2)
        assert (await node.task("deadline"))["status"] == "expired"
        await node.advance(3)
        assert (await node.task("delayed"))["status"] == "pending"

    with_fleet(step)
