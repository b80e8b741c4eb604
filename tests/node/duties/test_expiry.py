"""While the end of a lease is being decided, its agent is not told that it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from cluster.replica import NotCommittedError, OutcomeUnknownError
from node.duties.clock import settle
from node.duties.messages import Running
from statemachine import commands
from statemachine.commands import ExpireLeases
from statemachine.entry import Frame
from statemachine.outcome import Outcome
from tests.node.duties.fleet import FleetTest, fleet

LEASE_MS = 10_000


def hold_up_expiry(t: FleetTest) -> asyncio.Future[Exception | None]:
    """The first end of a lease that is proposed waits until the test decides it."""
    decided: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    propose = t.replica.propose

    async def slow(frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
        numbers = {msgspec.msgpack.decode(frame, type=Frame).number for frame in frames}
        if commands.NUMBERS[ExpireLeases] in numbers:
            t.replica.propose = propose  # type: ignore[method-assign]  # the next one is quick
            if (error := await decided) is not None:
                raise error
        return await propose(frames, timeout_s, term)

    t.replica.propose = slow  # type: ignore[method-assign]  # a log that takes its time
    return decided


@pytest.mark.parametrize("error", [None, NotCommittedError("overloaded", "too much"), OutcomeUnknownError()])
def test_a_lease_whose_end_is_being_decided_is_not_renewed(error: Exception | None) -> None:
    async def main() -> None:
        async with fleet() as t:
            t.register("a")
            t.submit("t", lease_ms=LEASE_MS)
            running = Running("t", t.claim("a", "t"))
            decided = hold_up_expiry(t)
            await t.clock.advance(LEASE_MS / 1000 + 1)
            assert t.status("t") == "running"
            assert await left_ms(t, running) == 0
            decided.set_result(error)
            await settle()
            if isinstance(error, NotCommittedError):
                # It does not end after all, so the agent may go on.
                assert await left_ms(t, running) == LEASE_MS
                return
            if error is not None:
                assert t.status("t") == "running"
                assert await left_ms(t, running) == 0, "the end may still be committed"
                await t.clock.advance(1)
            # The pause before the next attempt is chosen by chance, and may be over already.
            assert t.status("t") in ("scheduled", "pending")

    asyncio.run(main())


async def left_ms(t: FleetTest, running: Running) -> int:
    """What a heartbeat is told of the lease."""
    (lease,) = (await t.beat("a", running)).answer.leases
    return lease.remaining_ms
