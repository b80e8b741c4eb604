"""What memory and duties do after something went another way than they believed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from cluster.replica import CallFailedError, NotCommittedError, Notice
from node.duties import messages
from node.duties.clock import ManualClock, settle
from node.duties.leader_memory import LeaderMemory
from node.duties.messages import Beat, BeatReply
from node.duties.pump import DEFECT_PAUSE_S, Pump
from node.duties.settings import DutySettings
from statemachine.commands import DeleteAgent, Requirement
from statemachine.outcome import Outcome
from tests.node.duties.fleet import FleetTest, fleet
from tests.node.duties.test_duties import encode


def memory_of(t: FleetTest) -> LeaderMemory:
    """The leader's memory."""
    assert t.duties.leadership is not None
    return t.duties.leadership.memory


def test_a_step_with_more_to_do_lets_others_have_their_turn() -> None:
    async def scenario() -> None:
        runs = 0
        turn = asyncio.Event()

        async def step() -> float | None:
            nonlocal runs
            runs += 1
            return None if turn.is_set() or runs > 1_000 else 0

        Pump("busy", ManualClock(), step, retry_ms=100).wake()
        asyncio.get_running_loop().call_later(0, turn.set)
        await settle()
        assert runs < 1_000

    asyncio.run(scenario())


def test_a_duty_survives_its_own_defect(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        clock, runs = ManualClock(), 0

        async def step() -> float | None:
            nonlocal runs
            runs += 1
            if runs == 1:
                raise AssertionError("a defect")
            return None

        Pump("broken", clock, step, retry_ms=100).wake()
        await settle()
        await clock.advance(DEFECT_PAUSE_S)
        assert runs == 2

    asyncio.run(scenario())
    assert "duty broken met a defect" in caplog.text


def test_dispatch_rests_when_listeners_went_while_offers_were_under_way() -> None:
    async def scenario() -> None:
        async with fleet(DutySettings(scan_tasks_max=2)) as t:
            leadership = t.duties.leadership
            assert leadership is not None
            passes = 0
            propose, match = t.replica.propose, leadership._dispatcher.match

            async def slowly(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
                outcomes = await propose(frames, timeout_s, term)
                await settle()
                return outcomes

            def counted(*args: Any, **named: Any) -> Any:
                nonlocal passes
                passes += 1
                assert passes < 100, "it never rests"
                return match(*args, **named)

            t.replica.propose = slowly  # type: ignore[method-assign]  # a slow disk
            leadership._dispatcher.match = counted  # type: ignore[method-assign]  # it hands everything on
            t.register("a1", slots=4)
            t.submit(*(f"t{number}" for number in range(10)))
            poll = await t.poll("a1")
            await t.clock.advance(1)
            assert poll.done()
            assert t.status("t0") == "assigned"
            assert passes < 10

    asyncio.run(scenario())


def test_agent_that_is_declared_offline_while_it_calls_comes_back() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            propose = t.replica.propose
            polls: list[asyncio.Task[object]] = []

            async def heard_meanwhile(
                frames: Sequence[bytes], timeout_s: float, term: int | None = None
            ) -> list[Outcome]:
                if not polls:
                    polls.append(await t.poll("a1"))
                return await propose(frames, timeout_s, term)

            t.replica.propose = heard_meanwhile  # type: ignore[method-assign]  # a slow disk
            await t.clock.advance(17)
            assert polls, "it was declared offline"
            await t.clock.advance(1)
            assert t.liveness("a1") == "online"
            t.submit("t1")
            await settle()
            assert t.status("t1") == "assigned"

    asyncio.run(scenario())


def test_silence_that_ended_before_it_was_said_is_not_said() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            propose, refused = t.replica.propose, 0

            async def refusing(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
                nonlocal refused
                refused += 1
                raise NotCommittedError("no_leader", "not now")

            t.replica.propose = refusing  # type: ignore[method-assign]  # nobody takes it
            await t.clock.advance(17)
            assert refused
            await t.poll("a1")
            t.replica.propose = propose  # type: ignore[method-assign]  # as it was
            revision = t.agent("a1").revision
            await t.clock.advance(2)
            assert t.agent("a1").revision == revision, "it was never offline"

    asyncio.run(scenario())


def test_a_new_leader_does_not_take_an_offline_agent_for_one_it_heard() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            await t.clock.advance(17)
            assert t.liveness("a1") == "offline"
            t.replica.lead()
            await t.clock.advance(3)
            assert t.liveness("a1") == "offline"
            await t.beat("a1")
            await t.clock.advance(1)
            assert t.liveness("a1") == "online"

    asyncio.run(scenario())


def test_offers_that_lapse_together_are_one_miss() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1", slots=4)
            t.submit("t0", "t1", "t2", "t3")
            await t.poll("a1")
            await t.clock.advance(6)
            assert [t.status(f"t{number}") for number in range(4)] == ["pending"] * 4
            agent = memory_of(t).fleet.get("a1")
            assert agent is not None
            assert (agent.offers_missed, t.liveness("a1")) == (1, "online")

    asyncio.run(scenario())


def test_offer_that_was_accepted_just_in_time_is_no_miss() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            t.submit("t1", lease_ms=60_000)
            await t.poll("a1")
            propose = t.replica.propose

            async def after_the_agent(
                frames: Sequence[bytes], timeout_s: float, term: int | None = None
            ) -> list[Outcome]:
                if t.status("t1") == "assigned":
                    t.accept("a1", "t1")
                return await propose(frames, timeout_s, term)

            t.replica.propose = after_the_agent  # type: ignore[method-assign]  # the acceptance is first in the log
            await t.clock.advance(6)
            assert t.status("t1") == "running"
            agent = memory_of(t).fleet.get("a1")
            assert agent is not None
            assert agent.offers_missed == 0

    asyncio.run(scenario())


def test_holding_that_the_state_does_not_know_frees_its_slot() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            t.submit("t1")
            t.claim("a1", "t1", lease_ms=2_000)
            leadership = t.duties.leadership
            assert leadership is not None
            leadership.on_notice, heard = (lambda notice: None), leadership.on_notice  # type: ignore[method-assign]  # one notice is lost
            t.complete("a1", "t1")
            leadership.on_notice = heard  # type: ignore[method-assign]  # as it was
            assert len(memory_of(t).holdings) == 1
            await t.clock.advance(4)
            assert len(memory_of(t).holdings) == 0

    asyncio.run(scenario())


def test_who_declined_is_asked_again_soon_only_when_nobody_else_can() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            needs = (Requirement("python", 0),)
            t.register("a1", ("python", 9_000))
            t.register("idle", ("go", 9_000))
            t.submit("t1", requires=needs)
            await t.poll("a1")
            t.release("a1", "t1")
            await t.poll("a1")
            await t.clock.advance(1)
            assert t.status("t1") == "pending", "at once would be a loop"
            await t.clock.advance(2)
            assert t.status("t1") == "assigned"
            t.register("busy", ("python", 1_000))
            await t.beat("busy")
            t.release("a1", "t1")
            await t.poll("a1")
            await t.clock.advance(10)
            assert t.status("t1") == "pending", "another one can, and may soon"
            await t.poll("busy")
            await settle()
            assert t.task("t1").agent_id == "busy"

    asyncio.run(scenario())


def test_unresponsive_agent_is_tried_soon_then_later_and_later() -> None:
    settings = DutySettings()
    assert [settings.probation_ms(count) for count in range(1, 7)] == [10_000, 20_000, 40_000, 60_000, 60_000, 60_000]


def test_answer_for_fewer_beats_than_asked_is_no_answer() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")

            async def nothing(_: str, __: bytes) -> bytes:
                return encode(BeatReply(""))

            async def nonsense(_: str, __: bytes) -> bytes:
                return b"\xc1"

            for handler in (nothing, nonsense):
                t.replica.serve(messages.BEAT, handler)
                with pytest.raises(CallFailedError):
                    await t.duties.calls.beat(Beat("a1", None))

    asyncio.run(scenario())


def test_memory_after_a_gap_keeps_who_listens_and_forgets_who_is_gone() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            t.register("gone")
            poll = await t.poll("a1")
            await t.poll("gone")
            leadership, memory = t.duties.leadership, memory_of(t)
            assert leadership is not None
            leadership.on_notice, heard = (lambda notice: None), leadership.on_notice  # type: ignore[method-assign]  # the gap
            t.do(DeleteAgent("gone"))
            leadership.on_notice = heard  # type: ignore[method-assign]  # as it was
            memory.follow(Notice(t.replica.index, 1, 0, t.replica.revision, t.clock.now_ms(), gap=True))
            kept = memory.fleet.get("a1")
            assert kept is not None
            assert memory.fleet.listening(kept, memory.clock.now_s())
            assert memory.fleet.get("gone") is None
            t.submit("t1")
            await settle()
            assert (t.status("t1"), poll.done()) == ("assigned", True)

    asyncio.run(scenario())
