"""The clock of leases stands still while this leader is paused or nobody confirms it, and never runs ahead of time."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.local import LocalReplica
from node.duties.clock import ManualClock
from node.duties.lease_clock import LeaseClock
from node.duties.settings import DutySettings


def _make() -> tuple[ManualClock, LocalReplica, LeaseClock]:
    clock = ManualClock()
    replica = LocalReplica(clock.now_ms)
    lease_clock = LeaseClock(clock, replica, DutySettings(), lambda: None)
    lease_clock.start()
    return clock, replica, lease_clock


def test_it_follows_time_that_passes_evenly() -> None:
    async def scenario() -> None:
        clock, _, lease_clock = _make()
        await clock.advance(10.25)
        assert abs(lease_clock.now_s() - 10.25) < 0.001

    asyncio.run(scenario())


def test_a_pause_counts_for_one_tick() -> None:
    async def scenario() -> None:
        clock, _, lease_clock = _make()
        await clock.advance(2)
        await clock.jump(100)
        assert lease_clock.now_s() <= 2.5
        assert lease_clock.stood_still_s >= 99.5

    asyncio.run(scenario())


def test_without_confirmation_it_stands_still() -> None:
    async def scenario() -> None:
        clock, replica, lease_clock = _make()
        await clock.advance(1)
        replica.leadership_confirmed_s = lambda: 0.7  # type: ignore[method-assign]  # older than the fallback time
        assert not lease_clock.believable
        await clock.advance(60)
        assert lease_clock.now_s() <= 1.5
        replica.leadership_confirmed_s = lambda: 0.1  # type: ignore[method-assign]  # confirmed again
        await clock.advance(1)
        assert lease_clock.now_s() <= 2.5

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 5.0)), max_size=20))
@settings(max_examples=60, deadline=None)
def test_it_never_runs_ahead_of_time(steps: list[tuple[bool, float]]) -> None:
    async def scenario() -> None:
        clock, _, lease_clock = _make()
        start_s = clock.monotonic_s()
        for pause, seconds in steps:
            await (clock.jump(seconds) if pause else clock.advance(seconds))
            assert lease_clock.now_s() <= clock.monotonic_s() - start_s + 1e-6

    asyncio.run(scenario())
