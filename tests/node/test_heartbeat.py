"""Heartbeats: long-polls and what ends them, leases they renew, agents that fall silent, leaders that change."""

from __future__ import annotations

import asyncio

import pytest

from node.duties.frames import frame
from statemachine.commands import ClaimTasks
from tests.node.fleet_http import FleetNode, with_fleet
from tests.node.harness import until

EMPTY = {"offers": [], "held": [], "cancel": [], "lost": [], "drain": False, "inbox": {"unread": 0, "high": 0}}


def test_empty_heartbeat() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        answer = await node.beat("a1", epoch, metrics={"cpu_usage": 0.5, "tokens_per_second": 31.5})
        assert answer == {**EMPTY, "heartbeat_interval_ms": 5_000, "durable": False}
        agent = (await node.get("/api/agents/a1?live=true")).json
        assert agent["live"]["metrics"] == {"cpu_usage": 0.5, "tokens_per_second": 31.5}
        assert agent["performance"]["tokens_per_second"] == 31.5

    with_fleet(step)


def test_poll_ends_when_its_time_is_over() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        poll = await node.poll("a1", epoch, wait_ms=10_000)
        await node.advance(9)
        assert not poll.done()
        await node.advance(1.5)
        assert (await poll)["offers"] == []
        await node.submit("t1")
        assert (await node.task("t1"))["status"] == "pending", "nobody listens any more"

    with_fleet(step)


def test_unknown_fields_are_ignored_and_named() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        answer = await node.beat("a1", epoch, mood="good", running=[{"task_id": "t", "attempt": 1, "colour": 3}])
        assert answer["warnings"] == ["mood", "running[0].colour"]
        assert answer["lost"] == [{"task_id": "t", "attempt": 1, "current": None}]

    with_fleet(step)


def test_offers_repeat_until_accepted() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        poll = await node.poll("a1", epoch)
        await node.submit("t1")
        assert [offer["attempt"] for offer in (await poll)["offers"]] == [1]
        assert [offer["attempt"] for offer in (await node.beat("a1", epoch))["offers"]] == [1]
        again = await node.poll("a1", epoch)
        await node.advance(1.1)
        assert [offer["attempt"] for offer in (await again)["offers"]] == [1]
        await node.verb("accept", "t1", "a1", 1)
        answer = await node.beat("a1", epoch, running=[{"task_id": "t1", "attempt": 1}])
        assert answer["offers"] == []
        assert answer["held"] == [
            {"task_id": "t1", "attempt": 1, "status": "running", "lease_remaining_ms": 60_000, "project": "default"}
        ]

    with_fleet(step)


def test_listing_an_offer_as_running_does_not_prolong_it() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.poll("a1", epoch)
        await node.submit("t1")
        for _ in range(3):
            await node.advance(2)
            await node.beat("a1", epoch, running=[{"task_id": "t1", "attempt": 1}])
        assert (await node.task("t1"))["status"] == "pending"

    with_fleet(step)


def test_newer_poll_ends_the_older_with_nothing() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        older = await node.poll("a1", epoch)
        newer = await node.poll("a1", epoch)
        answer = await older
        assert {name: answer[name] for name in EMPTY} == EMPTY
        await node.submit("t1")
        assert [offer["task_id"] for offer in (await newer)["offers"]] == ["t1"]

    with_fleet(step)


def test_cancellation_ends_the_poll() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        poll = await node.poll("a1", epoch, running=[{"task_id": "t1", "attempt": 1}])
        assert not poll.done()
        await node.ask("DELETE", "/api/tasks/t1")
        answer = await poll
        assert answer["cancel"] == [{"task_id": "t1", "attempt": 1, "reason": "cancelled", "project": "default"}]
        assert answer["lost"] == []
        quiet = await node.poll("a1", epoch, wait_ms=500)
        assert not quiet.done(), "an agent that is stopping its work does not spin"
        await node.verb("release", "t1", "a1", 1)
        await node.advance(0.6)
        assert (await quiet)["cancel"] == []

    with_fleet(step)


def test_loss_ends_the_poll() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1", run_timeout_ms=4_000)
        await node.claim("a1", epoch)
        poll = await node.poll("a1", epoch, running=[{"task_id": "t1", "attempt": 1}])
        await node.advance(4.5)
        (lost,) = (await poll)["lost"]
        assert (lost["task_id"], lost["attempt"]) == ("t1", 1)
        assert lost["current"]["attempt"] == 1
        assert lost["current"]["status"] in {"scheduled", "pending"}

    with_fleet(step)


def test_what_the_agent_ended_itself_is_not_lost() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        poll = await node.poll("a1", epoch, running=[{"task_id": "t1", "attempt": 1}], wait_ms=2_000)
        await node.verb("complete", "t1", "a1", 1)
        await node.advance(2.5)
        assert (await poll)["lost"] == []

    with_fleet(step)


def test_drain_ends_the_poll_and_stops_work() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        poll = await node.poll("a1", epoch)
        drained = await node.post("/api/agents/a1/drain")
        assert drained.json["status"] == "draining"
        assert (await poll)["drain"] is True
        await node.submit("t1")
        quiet = await node.poll("a1", epoch)
        index = node.replica.index
        await node.advance(3)
        assert node.replica.index == index, "nothing is even tried"
        assert (await node.task("t1"))["status"] == "pending"
        assert await node.claim("a1", epoch) == []
        back = await node.ask("DELETE", "/api/agents/a1/drain")
        assert back.json["status"] == "online"
        assert [offer["task_id"] for offer in (await quiet)["offers"]] == ["t1"]

    with_fleet(step)


def test_running_renews_and_the_rest_runs_out() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        for name in ("kept", "dropped"):
            await node.submit(name, lease_ms=10_000, max_attempts=1)
        await node.claim("a1", epoch, limit=2)
        for _ in range(4):
            await node.advance(4)
            await node.beat("a1", epoch, running=[{"task_id": "kept", "attempt": 1, "progress": {"fraction": 0.5}}])
        assert (await node.task("kept"))["status"] == "running"
        assert (await node.task("dropped"))["failure"]["reason"] == "lease_lost"
        assert (await node.get("/api/tasks/kept?live=true")).json["progress"]["fraction"] == 0.5

    with_fleet(step)


def test_lease_is_renewed_when_the_poll_is_answered_too() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        await node.submit("t1", lease_ms=10_000)
        await node.claim("a1", epoch)
        poll = await node.poll("a1", epoch, running=[{"task_id": "t1", "attempt": 1}], wait_ms=9_000)
        await node.advance(9.1)
        assert (await poll)["held"][0]["lease_remaining_ms"] > 9_000
        await node.advance(8)
        assert (await node.task("t1"))["status"] == "running"

    with_fleet(step)


def test_lapsed_offer_goes_to_another_agent() -> None:
    async def step(node: FleetNode) -> None:
        epochs = {name: await node.register(name) for name in ("a1", "a2")}
        await node.poll("a1", epochs["a1"])
        await node.submit("t1")
        await node.poll("a2", epochs["a2"])
        assert (await node.task("t1"))["agent_id"] == "a1"
        await node.poll("a1", epochs["a1"])
        await node.advance(6)
        task = await node.task("t1")
        assert (task["agent_id"], task["attempt"], task["tries"]) == ("a2", 2, 0)

    with_fleet(step)


def test_declined_offer_goes_to_another_agent() -> None:
    async def step(node: FleetNode) -> None:
        epochs = {name: await node.register(name) for name in ("a1", "a2")}
        await node.poll("a1", epochs["a1"])
        await node.submit("t1")
        await node.poll("a2", epochs["a2"])
        await node.poll("a1", epochs["a1"])
        declined = await node.verb("release", "t1", "a1", 1)
        assert declined.status == 200
        await until(lambda: node.duties.leadership is not None and len(node.leadership.memory.pending) == 0)
        task = await node.task("t1")
        assert (task["agent_id"], task["attempt"]) == ("a2", 2)

    with_fleet(step)


def test_only_agent_gets_a_declined_task_again_later() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.poll("a1", epoch)
        await node.submit("t1")
        await node.verb("release", "t1", "a1", 1)
        poll = await node.poll("a1", epoch)
        await node.advance(1)
        assert (await node.task("t1"))["status"] == "pending"
        explained = (await node.get("/api/tasks/t1/explain")).json
        assert [reason["code"] for reason in explained["reasons"]] == ["avoided"]
        await node.advance(2)
        assert [offer["attempt"] for offer in (await poll)["offers"]] == [2]

    with_fleet(step)


def test_three_misses_make_unresponsive_until_a_claim() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        for number in range(3):
            assert (await node.get("/api/agents/a1")).json["status"] == "online"
            await node.submit(f"t{number}", priority=5 + number)
            await node.poll("a1", epoch)
            assert (await node.task(f"t{number}"))["status"] == "assigned"
            await node.advance(6)
            assert (await node.task(f"t{number}"))["tries"] == 0
        assert (await node.get("/api/agents/a1")).json["status"] == "unresponsive"
        await node.poll("a1", epoch)
        await node.submit("t9")
        assert (await node.task("t9"))["status"] == "pending"
        (grant,) = await node.claim("a1", epoch)
        await until(lambda: node.leadership.memory.fleet.get("a1").liveness == "online")  # type: ignore[union-attr]  # it is there
        assert (await node.verb("complete", grant["task_id"], "a1", grant["attempt"])).status == 200
        assert (await node.get("/api/agents/a1")).json["status"] in {"online", "busy"}

    with_fleet(step)


def test_unresponsive_agent_that_goes_on_polling_is_tried_again() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        for number in range(3):
            await node.submit(f"t{number}")
            await node.poll("a1", epoch)
            await node.advance(6)
        assert (await node.get("/api/agents/a1")).json["status"] == "unresponsive"
        for _ in range(8):
            poll = await node.poll("a1", epoch, wait_ms=9_000)
            await node.advance(9.5)
            if (await poll)["offers"]:
                break
        else:
            pytest.fail("it was never tried again")

    with_fleet(step)


def test_silent_agent_is_offline_and_its_offer_requeued() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1", lease_ms=60_000)
        await node.claim("a1", epoch)
        await node.advance(14)
        assert (await node.get("/api/agents/a1")).json["status"] == "busy"
        await node.advance(3)
        assert (await node.get("/api/agents/a1")).json["status"] == "offline"
        assert (await node.task("t1"))["status"] == "running", "running attempts wait for their leases"
        await node.beat("a1", epoch, running=[{"task_id": "t1", "attempt": 1}])
        await until(lambda: node.leadership.memory.fleet.get("a1").liveness == "online")  # type: ignore[union-attr]  # it is there

    with_fleet(step)


def test_open_poll_is_a_sign_of_life() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        poll = await node.poll("a1", epoch, wait_ms=60_000)
        await node.advance(55)
        assert not poll.done()
        assert (await node.get("/api/agents/a1")).json["status"] == "online"

    with_fleet(step)


def test_old_epoch_and_unknown_agent() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        poll = asyncio.create_task(node.post("/api/agents/a1/heartbeat", {"epoch": epoch, "wait_ms": 60_000}))
        await until(lambda: node.duties.polls.opened == 1)
        newer = await node.register("a1", instance_id="i2")
        assert newer > epoch
        ended = await poll
        assert (ended.status, ended.json["code"]) == (409, "stale_epoch")
        assert ended.json["current"] == {"epoch": newer}
        stale = await node.post("/api/agents/a1/heartbeat", {"epoch": epoch})
        assert (stale.status, stale.json["code"]) == (409, "stale_epoch")
        unknown = await node.post("/api/agents/nobody/heartbeat", {"epoch": 1})
        assert (unknown.status, unknown.json["code"]) == (404, "not_found")

    with_fleet(step)


def test_without_a_leader_heartbeats_are_refused_safely() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        (grant,) = await node.claim("a1", epoch)
        node.replica.follow()
        for answer in (
            await node.post("/api/agents/a1/heartbeat", {"epoch": epoch}),
            await node.post("/api/agents/a1/heartbeat", {"epoch": epoch, "wait_ms": 1_000}),
            await node.verb("renew", "t1", "a1", grant["attempt"]),
            await node.post("/api/tasks/claim", {"agent_id": "a1", "epoch": epoch}),
        ):
            assert (answer.status, answer.json["code"], answer.json["retry"]) == (503, "no_leader", "safe")
        live = (await node.get("/api/tasks/t1?live=true")).json
        assert live["live"] is None
        assert (await node.get("/api/agents/a1")).json["last_seen"] is None

    with_fleet(step)


def test_new_leader_expires_nothing_early() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        await node.submit("t1", lease_ms=10_000, max_attempts=1)
        await node.claim("a1", epoch)
        await node.advance(9)
        node.replica.follow()
        await node.advance(30)
        node.replica.lead()
        assert (await node.task("t1"))["status"] == "running"
        await node.advance(9.5)
        await node.advance(0.8)
        assert (await node.task("t1"))["status"] == "running", "a fresh full term, and one fallback time"
        assert (await node.get("/api/agents/a1")).json["status"] == "online"
        await node.advance(1)
        assert (await node.task("t1"))["failure"]["reason"] == "lease_lost"

    with_fleet(step)


def test_poll_stays_open_over_a_change_of_leader() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        poll = await node.poll("a1", epoch)
        node.replica.follow()
        await node.advance(1)
        node.replica.lead()
        await node.advance(1)
        assert not poll.done()
        await node.submit("t1")
        assert [offer["task_id"] for offer in (await poll)["offers"]] == ["t1"]

    with_fleet(step)


def test_paused_leader_adds_the_pause_to_every_lease() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1", lease_ms=10_000, max_attempts=1)
        await node.claim("a1", epoch)
        await node.clock.jump(60)
        await node.advance(9)
        assert (await node.task("t1"))["status"] == "running"
        assert (await node.get("/api/agents/a1")).json["status"] == "busy"
        await node.advance(2)
        assert (await node.task("t1"))["failure"]["reason"] == "lease_lost"

    with_fleet(step)


def test_leader_that_no_majority_confirms_expires_nothing() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1", lease_ms=5_000, max_attempts=1)
        await node.claim("a1", epoch)
        node.replica.leadership_confirmed_s = lambda: 5.0  # type: ignore[method-assign]  # a leader cut off from the others
        await node.advance(30)
        assert (await node.task("t1"))["status"] == "running"
        refused = await node.post("/api/agents/a1/heartbeat", {"epoch": epoch})
        assert (refused.status, refused.json["code"]) == (503, "no_leader")
        node.replica.leadership_confirmed_s = lambda: 0.0  # type: ignore[method-assign]  # the others are back
        await node.advance(4)
        assert (await node.task("t1"))["status"] == "running"
        await node.advance(2)
        assert (await node.task("t1"))["status"] == "failed"

    with_fleet(step)


def test_reregistration_requeues_at_once() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        await node.claim("a1", epoch)
        same = await node.post("/api/agents", {"agent_id": "a1", "instance_id": "i1"})
        assert (same.status, same.json["epoch"]) == (200, epoch)
        assert (await node.task("t1"))["status"] == "running"
        newer = await node.register("a1", instance_id="i2")
        assert (await node.task("t1"))["status"] == "pending"
        assert (await node.verb("complete", "t1", "a1", 1)).json["code"] == "stale_attempt"
        poll = await node.poll("a1", newer)
        assert [offer["attempt"] for offer in (await poll)["offers"]] == [2]

    with_fleet(step)


def test_node_that_stops_sends_agents_away() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        poll = asyncio.create_task(node.post("/api/agents/a1/heartbeat", {"epoch": epoch, "wait_ms": 60_000}))
        await until(lambda: node.duties.polls.opened == 1)
        node.server.stop_accepting()
        answer = await poll
        assert (answer.status, answer.json["code"]) == (503, "shutting_down")

    with_fleet(step)


def test_client_that_hangs_up_gets_no_offers() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        poll = await node.poll("a1", epoch)
        poll.cancel()
        await until(lambda: not node.leadership.memory.fleet.anyone_listening)
        await node.submit("t1")
        assert (await node.task("t1"))["status"] == "pending"

    with_fleet(step)


def test_who_hangs_up_renews_nothing() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1", max_concurrent=2)
        await node.submit("t1", lease_ms=10_000, max_attempts=1)
        await node.claim("a1", epoch)
        poll = await node.poll("a1", epoch, running=[{"task_id": "t1", "attempt": 1}])
        await node.advance(8)
        poll.cancel()
        await until(lambda: not node.leadership.memory.fleet.anyone_listening)
        await node.advance(3)
        assert (await node.task("t1"))["status"] == "failed"

    with_fleet(step)


def test_node_that_is_behind_asks_before_it_says_lost() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        await node.submit("t1")
        asked = 0

        async def barrier(timeout_s: float) -> None:
            """What the leader has committed arrives here."""
            nonlocal asked
            asked += 1
            node.replica.apply([frame(ClaimTasks("a1", epoch, ("t1",), named=True), "default")])

        node.replica.read_barrier = barrier  # type: ignore[method-assign]  # a follower that catches up when asked
        answer = await node.beat("a1", epoch, running=[{"task_id": "t1", "attempt": 1}])
        assert (answer["lost"], asked) == ([], 1)
        assert answer["held"][0]["task_id"] == "t1"

    with_fleet(step)


def test_misses_in_a_row_count() -> None:
    async def step(node: FleetNode) -> None:
        epoch = await node.register("a1")
        for number in range(5):
            await node.submit(f"t{number}")
            poll = await node.poll("a1", epoch)
            (offer,) = (await poll)["offers"]
            if number == 2:
                await node.verb("accept", offer["task_id"], "a1", offer["attempt"])
                await node.verb("complete", offer["task_id"], "a1", offer["attempt"])
            else:
                await node.advance(31)
        assert (await node.get("/api/agents/a1")).json["status"] == "offline"
        agent = node.leadership.memory.fleet.get("a1")
        assert agent is not None
        assert agent.offers_missed == 2

    with_fleet(step)
