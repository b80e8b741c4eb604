"""Several proposals of offers at once: what they took stays taken until their outcome, and only what is not made is
given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from cluster.replica import NotCommittedError, OutcomeUnknownError
from node.duties.clock import settle
from node.duties.leadership import PROPOSE_TIMEOUT_S
from node.duties.messages import ClaimRequest
from node.duties.settings import DutySettings
from statemachine import commands
from statemachine.commands import CancelTask, OfferTasks
from statemachine.entry import Frame
from statemachine.outcome import Outcome
from tests.node.duties.fleet import FleetTest, fleet

Propose = Callable[[Sequence[bytes], float, int | None], Awaitable[list[Outcome]]]


class SlowLog:
    """A log in which offers wait until the test decides them; everything else is committed at once."""

    def __init__(self, propose: Propose) -> None:
        self._propose = propose
        self.offers: list[OfferTasks] = []
        self.under_way: list[asyncio.Future[Exception | None]] = []

    async def propose(self, frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
        proposed = msgspec.msgpack.decode(frames[0], type=Frame)
        if proposed.number != commands.NUMBERS[OfferTasks]:
            return await self._propose(frames, timeout_s, term)
        self.offers.append(msgspec.msgpack.decode(proposed.payload, type=OfferTasks))
        decided: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.under_way.append(decided)
        try:
            error = await decided
        finally:
            self.under_way.remove(decided)
        if error is not None:
            raise error
        return await self._propose(frames, timeout_s, term)

    def pairs(self) -> list[list[tuple[str, str]]]:
        """(task, agent) of each proposal so far, in the order in which they were made."""
        return [[(offer.task_id, offer.agent_id) for offer in command.items] for command in self.offers]

    async def decide(self, number: int = 0, error: Exception | None = None) -> None:
        """Commit, or fail, the proposal of this place among those under way."""
        self.under_way[number].set_result(error)
        await settle()

    async def decide_all(self) -> None:
        """Commit whatever is under way, and what follows."""
        while self.under_way:
            await self.decide()


@asynccontextmanager
async def slow_fleet(**settings: int) -> AsyncIterator[tuple[FleetTest, SlowLog]]:
    """A fleet whose offers wait."""
    async with fleet(DutySettings(**settings)) as t:
        log = SlowLog(t.replica.propose)
        t.replica.propose = log.propose  # type: ignore[method-assign]  # a slow disk
        yield t, log


async def listeners(t: FleetTest, count: int, slots: int = 1) -> None:
    """Agents a0, a1, … with an open poll."""
    for number in range(count):
        t.register(f"a{number}", slots=slots)
        await t.poll(f"a{number}")


def test_so_many_proposals_go_on_their_way_at_once_in_order() -> None:
    async def scenario() -> None:
        async with slow_fleet(offers_per_batch=2, offers_under_way_max=3) as (t, log):
            await listeners(t, 10)
            t.submit(*(f"t{number}" for number in range(10)))
            await settle()
            assert len(log.under_way) == 3
            assert [[task for task, _ in batch] for batch in log.pairs()] == [["t0", "t1"], ["t2", "t3"], ["t4", "t5"]]
            await log.decide()
            assert len(log.under_way) == 3, "the next one goes as soon as one has come back"
            await log.decide_all()
            pairs = [pair for batch in log.pairs() for pair in batch]
            assert [task for task, _ in pairs] == [f"t{number}" for number in range(10)]
            assert len({agent for _, agent in pairs}) == 10
            assert {t.status(f"t{number}") for number in range(10)} == {"assigned"}

    asyncio.run(scenario())


def test_what_is_promised_takes_room_until_it_is_decided() -> None:
    async def scenario() -> None:
        async with slow_fleet() as (t, log):
            await listeners(t, 2)
            for number in range(4):
                t.submit(f"t{number}")
                await settle()
            assert log.pairs() == [[("t0", "a0")], [("t1", "a1")]], "one slot each"
            claim = ClaimRequest("a0", t.agent("a0").epoch, "default", 1)
            assert (await t.duties.calls.claim(claim)).task_ids == (), "the slot is promised, whoever asks"
            await log.decide(1)
            await log.decide(0)
            assert [t.status(f"t{number}") for number in range(4)] == ["assigned"] * 2 + ["pending"] * 2
            assert not log.under_way
            t.accept("a0", "t0")
            t.complete("a0", "t0")
            await t.poll("a0")
            await log.decide_all()
            assert log.pairs()[2:] == [[("t2", "a0")]]

    asyncio.run(scenario())


def test_a_refused_proposal_gives_back_what_it_took_and_no_more() -> None:
    async def scenario() -> None:
        async with slow_fleet(offers_per_batch=1, retry_ms=100) as (t, log):
            await listeners(t, 2)
            t.submit("t0", "t1", "t2")
            await settle()
            assert log.pairs() == [[("t0", "a0")], [("t1", "a1")]]
            await log.decide(0, NotCommittedError("overloaded", "too much is waiting"))
            t.submit("t3")
            await settle()
            assert len(log.offers) == 2, "it rests a moment, whoever wakes it"
            await t.clock.advance(0.2)
            assert log.pairs()[2:] == [[("t0", "a0")]], "a1 and its task are still under way"
            await log.decide_all()
            assert [t.task(f"t{number}").agent_id for number in range(4)] == ["a0", "a1", None, None]
            assert len(log.offers) == 3

    asyncio.run(scenario())


def test_refusals_at_once_do_not_spin() -> None:
    async def scenario() -> None:
        async with fleet(DutySettings(offers_per_batch=1, retry_ms=100)) as t:
            propose, refused = t.replica.propose, 0

            async def overloaded(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
                nonlocal refused
                refused += 1
                raise NotCommittedError("overloaded", "too much is waiting")

            await listeners(t, 5)
            t.replica.propose = overloaded  # type: ignore[method-assign]  # a replica under pressure
            t.submit(*(f"t{number}" for number in range(5)))
            await t.clock.advance(1)
            assert 5 <= refused <= 11
            t.replica.propose = propose  # type: ignore[method-assign]  # it has recovered
            await t.clock.advance(0.2)
            assert {t.status(f"t{number}") for number in range(5)} == {"assigned"}

    asyncio.run(scenario())


def test_what_is_passed_over_frees_the_agent_for_the_next_task() -> None:
    async def scenario() -> None:
        async with slow_fleet() as (t, log):
            await listeners(t, 2)
            t.submit("t0", "t1")
            await settle()
            t.submit("t2")
            t.do(CancelTask("t0"))
            await settle()
            assert log.pairs() == [[("t0", "a0"), ("t1", "a1")]]
            await log.decide_all()
            assert log.pairs()[1:] == [[("t2", "a0")]]
            assert [t.status(f"t{number}") for number in range(3)] == ["cancelled", "assigned", "assigned"]

    asyncio.run(scenario())


def test_an_unknown_outcome_that_was_made_is_not_made_again() -> None:
    async def scenario() -> None:
        async with slow_fleet(retry_ms=100) as (t, log):
            await listeners(t, 2)
            t.submit("t0")
            await settle()
            t.do(log.offers[0])
            await log.decide(0, OutcomeUnknownError("not seen in time"))
            await t.clock.advance(1)
            assert len(log.offers) == 1
            assert (t.status("t0"), t.task("t0").attempt) == ("assigned", 1)

    asyncio.run(scenario())


def test_offers_are_kept_as_long_as_they_are_under_way() -> None:
    async def scenario() -> None:
        async with slow_fleet(reservation_ms=1_000) as (t, log):
            await listeners(t, 2)
            t.submit("t0")
            await t.clock.advance(PROPOSE_TIMEOUT_S)
            assert log.pairs() == [[("t0", "a0")]]
            await log.decide_all()
            assert t.task("t0").agent_id == "a0"

    asyncio.run(scenario())


def test_the_end_of_a_term_cancels_what_is_under_way() -> None:
    async def scenario() -> None:
        async with slow_fleet(offers_per_batch=1) as (t, log):
            await listeners(t, 3)
            t.submit("t0", "t1", "t2")
            await settle()
            assert len(log.under_way) == 3
            t.replica.follow()
            await settle()
            assert log.under_way == []
            t.replica.lead()
            await settle()
            await t.clock.advance(1)
            await log.decide_all()
            assert sorted(task for batch in log.pairs()[3:] for task, _ in batch) == ["t0", "t1", "t2"]
            assert {t.status(f"t{number}") for number in range(3)} == {"assigned"}

    asyncio.run(scenario())


def test_the_offer_of_an_idle_agent_does_not_wait_for_the_leader_once_more() -> None:
    async def scenario() -> None:
        async with fleet() as t:
            t.register("a1")
            poll = await t.poll("a1")
            await t.clock.advance(5)

            async def silent(service: str, request: bytes, timeout_s: float) -> bytes:
                await asyncio.get_running_loop().create_future()
                return request

            t.replica.call_leader = silent  # type: ignore[method-assign]  # the way to it is cut
            t.submit("t1")
            await settle()
            assert t.status("t1") == "assigned"
            assert poll.done()

    asyncio.run(scenario())
