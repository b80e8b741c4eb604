"""The duties together: who is chosen, what other nodes hear, what time does, what a change of leader stops."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from cluster.replica import CallFailedError, NotCommittedError
from node.duties import messages
from node.duties.clock import ManualClock, settle
from node.duties.messages import (
    Beat,
    BeatReply,
    BeatRequest,
    ClaimReply,
    ClaimRequest,
    LiveRequest,
    PollsReply,
    PollsRequest,
)
from node.duties.pump import Pump
from node.duties.settings import DutySettings
from statemachine import session_record
from statemachine.commands import CancelGroup, CreateSession, NewTask, Requirement, SubmitTasks
from tests.node.duties.fleet import FleetTest, fleet

encode = msgspec.msgpack.encode


def test_best_agent_gets_the_task() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("weak", ("python", 5_000), slots=2)
            t.register("able", ("python", 9_000), slots=2)
            t.register("other", ("go", 10_000), slots=2)
            needs = (Requirement("python", 4_000),)
            polls = [await t.poll(name) for name in ("weak", "able", "other")]
            t.submit("t1", requires=needs)
            await settle()
            assert t.task("t1").agent_id == "able"
            t.accept("able", "t1")
            await t.poll("able")
            t.submit("t2", requires=needs)
            await settle()
            assert t.task("t2").agent_id == "able", "0.6 * 0.9 + 0.4 * 0.5 is more than 0.6 * 0.5 + 0.4 * 1.0"
            t.submit("t3", requires=needs)
            await settle()
            assert t.task("t3").agent_id == "weak"
            assert not polls[2].done()

    asyncio.run(scenario())


def test_equal_agents_take_turns() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            for name in ("a2", "a1", "a3"):
                t.register(name)
            given = []
            for number in range(6):
                for name in ("a1", "a2", "a3"):
                    if name not in t.duties.polls:
                        await t.poll(name)
                t.submit(f"t{number}")
                await settle()
                agent_id = t.task(f"t{number}").agent_id
                assert agent_id is not None
                given.append(agent_id)
                t.accept(agent_id, f"t{number}")
                t.complete(agent_id, f"t{number}")
                await settle()
            assert given == ["a1", "a2", "a3"] * 2

    asyncio.run(scenario())


def test_many_tasks_to_many_agents_in_order() -> None:
    async def scenario() -> None:
        async with fleet(DutySettings(offers_per_batch=8)) as t:
            t.submit(*(f"t{number:03}" for number in range(60)))
            for number in range(10):
                t.register(f"a{number}", slots=5)
                await t.poll(f"a{number}")
            await settle()
            assigned = [number for number in range(60) if t.status(f"t{number:03}") == "assigned"]
            assert assigned == list(range(50))

    asyncio.run(scenario())


def test_unmatchable_tasks_do_not_block_others() -> None:
    async def scenario() -> None:
        async with fleet(DutySettings(lane_tasks_max=10, scan_tasks_max=30)) as t:
            t.submit(*(f"u{number}" for number in range(100)), priority=9, requires=(Requirement("nobody"),))
            t.submit("t1", priority=0)
            t.register("a1")
            await t.poll("a1")
            await settle()
            assert t.status("t1") == "assigned"

    asyncio.run(scenario())


def test_poll_elsewhere_ends_the_one_here() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            epoch = t.register("a1")
            here = await t.poll("a1")
            request = BeatRequest("another node's run", (Beat("a1", epoch, poll=(77, 30_000)),))
            reply = msgspec.msgpack.decode(
                await t.replica.call_leader(messages.BEAT, encode(request), 1), type=BeatReply
            )
            assert reply.answers[0].code == ""
            await settle()
            assert (await here).superseded
            asking = asyncio.create_task(
                t.replica.call_leader(messages.POLLS, encode(PollsRequest("another node's run", 30_000)), 60)
            )
            await settle()
            assert not asking.done()
            await t.poll("a1")
            ended = msgspec.msgpack.decode(await asking, type=PollsReply)
            assert ended.superseded == (77,)

    asyncio.run(scenario())


def test_poll_of_a_node_that_died_runs_out() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            epoch = t.register("a1")
            request = BeatRequest("dead", (Beat("a1", epoch, poll=(1, 5_000)),))
            await t.replica.call_leader(messages.BEAT, encode(request), 1)
            await t.clock.advance(8)
            t.submit("t1")
            await settle()
            assert t.status("t1") == "pending"

    asyncio.run(scenario())


def test_who_does_not_lead_says_so() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            t.replica.follow()
            with pytest.raises(CallFailedError):
                await t.beat("a1")
            t.replica.is_leader = True
            with pytest.raises(CallFailedError, match="sure to be"):
                await t.duties.calls.beat(Beat("a1", None))
            with pytest.raises(CallFailedError, match="sure to be"):
                await t.duties.calls.claim(ClaimRequest("a1", 1, "default", 1))
            with pytest.raises(CallFailedError, match="sure to be"):
                await t.duties.calls.live(LiveRequest(everything=True), 1)
            assert await t.duties.live.live_agents(None, 1) is None
            t.replica.lead()
            assert (await t.beat("a1")).answer.code == ""

    asyncio.run(scenario())


def test_waiting_claims_are_served_in_turn() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            claims = {}
            for name in ("a1", "a2", "a3"):
                request = ClaimRequest(name, t.register(name), "default", 1, None, 5_000)
                claims[name] = asyncio.create_task(t.duties.calls.claim(request))
                await settle()
            t.submit("t1", "t2")
            await settle()
            done = {name: claim.result().task_ids for name, claim in claims.items() if claim.done()}
            assert done == {"a1": ("t1",), "a2": ("t2",)}
            t.claim("a1", "t1")
            t.claim("a2", "t2")
            await t.clock.advance(6)
            assert (await claims["a3"]).task_ids == ()

    asyncio.run(scenario())


def test_claims_are_bounded_and_end_with_the_term() -> None:
    async def scenario() -> None:
        async with fleet(DutySettings(claims_waiting_max=1)) as t:
            request = ClaimRequest("a1", t.register("a1"), "default", 1, None, 5_000)
            waiting = asyncio.create_task(t.duties.calls.claim(request))
            await settle()
            refused: ClaimReply = await t.duties.calls.claim(request)
            assert refused.code == "overloaded"
            t.replica.follow()
            assert (await waiting).task_ids == ()

    asyncio.run(scenario())


def test_claim_of_a_replaced_instance_ends() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            request = ClaimRequest("a1", t.register("a1"), "default", 1, None, 5_000)
            waiting = asyncio.create_task(t.duties.calls.claim(request))
            await settle()
            t.register("a1", instance="another")
            t.submit("t1")
            await settle()
            assert (await waiting).task_ids == ()
            assert (await t.duties.calls.claim(request)).code == "stale_epoch"

    asyncio.run(scenario())


def test_claims_choose_queues() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            epoch = t.register("a1", slots=5)
            t.submit("t1", queue="q1")
            t.submit("t2", queue="q2")
            one = await t.duties.calls.claim(ClaimRequest("a1", epoch, "default", 5, ("q2",)))
            assert one.task_ids == ("t2",)
            rest = await t.duties.calls.claim(ClaimRequest("a1", epoch, "default", 5))
            assert rest.task_ids == ("t1",), "what is kept for a claim is not given twice"
            await t.clock.advance(4)
            again = await t.duties.calls.claim(ClaimRequest("a1", epoch, "default", 5))
            assert again.task_ids == ("t1", "t2"), "it lapses when the claim does not follow"

    asyncio.run(scenario())


def test_time_and_left_over_work() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.do(CreateSession("s1", expires_at=t.clock.now_ms() + 2_000))
            t.do(SubmitTasks(tuple(NewTask(f"t{number}", group_id="g") for number in range(900))))
            t.do(CancelGroup("g"))
            await settle()
            assert t.status("t899") == "cancelled"
            await t.clock.advance(1.9)
            assert _session_status(t) == "active"
            await t.clock.advance(0.2)
            assert _session_status(t) == "expired"

    asyncio.run(scenario())


def _session_status(t: FleetTest) -> str:
    with t.replica.view() as view:
        session = session_record.find(view, 1, "s1")
    assert session is not None
    return str(session.status)


def test_many_due_tasks_in_bounded_steps() -> None:
    async def scenario() -> None:
        async with fleet(DutySettings(expired_per_batch=10)) as t:
            t.submit(*(f"d{number}" for number in range(35)), delay_ms=1_000)
            t.submit(*(f"x{number}" for number in range(35)), deadline_in_ms=1_000)
            before = t.replica.index
            await t.clock.advance(3)
            assert {t.status(f"d{number}") for number in range(35)} == {"pending"}
            assert {t.status(f"x{number}") for number in range(35)} == {"expired"}
            assert 4 <= t.replica.index - before <= 12

    asyncio.run(scenario())


def test_duties_stop_when_leadership_ends() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            t.submit("t1", lease_ms=2_000)
            t.submit("t2", delay_ms=1_000)
            t.claim("a1", "t1")
            t.replica.follow()
            assert t.duties.leadership is None
            assert t.clock.timers == 0
            index = t.replica.index
            await t.clock.advance(60)
            assert t.replica.index == index
            t.replica.lead()
            await t.clock.advance(1)
            assert t.status("t2") == "pending"
            assert t.status("t1") == "running"

    asyncio.run(scenario())


def test_idle_fleet_writes_nothing() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            await t.poll("a1")
            index = t.replica.index
            await t.clock.advance(40)
            assert t.replica.index == index

    asyncio.run(scenario())


def test_refused_proposals_are_made_again() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            t.register("a2")
            t.submit("t0", lease_ms=1_000, max_attempts=1)
            t.claim("a2", "t0")
            await t.poll("a1")
            propose, failures = t.replica.propose, 6

            async def failing(frames: list[bytes], timeout_s: float, term: int | None = None) -> object:
                nonlocal failures
                if failures:
                    failures -= 1
                    raise NotCommittedError("overloaded", "too much is waiting")
                return await propose(frames, timeout_s, term)

            t.replica.propose = failing  # type: ignore[method-assign,assignment]  # a replica under pressure
            t.submit("t1")
            await t.clock.advance(4)
            assert failures == 0
            assert t.status("t1") == "assigned"
            assert t.status("t0") == "failed"

    asyncio.run(scenario())


def test_pump_runs_one_step_at_a_time() -> None:
    async def scenario() -> None:
        clock, running, runs = ManualClock(), 0, 0
        gate = asyncio.Event()

        async def step() -> float | None:
            nonlocal running, runs
            running += 1
            assert running == 1
            runs += 1
            await gate.wait()
            running -= 1
            return 5.0 if runs == 2 else None

        pump = Pump("test", clock, step, retry_ms=100)
        pump.wake()
        await settle()
        pump.wake()
        pump.wake()
        gate.set()
        await settle()
        assert runs == 2
        await clock.advance(4)
        assert runs == 2
        await clock.advance(2)
        assert runs == 3
        pump.close()
        pump.wake()
        await settle()
        assert runs == 3

    asyncio.run(scenario())
