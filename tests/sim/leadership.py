"""The leader's duties of one simulated process: the real ones, on the real `NodeReplica`, on simulated time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.core import Core
from cluster.node_replica import NodeReplica
from cluster.peers import Peers
from node.duties.duties import Duties
from node.duties.settings import DutySettings
from tests.sim.clockwork import Event, SimClock, SimLoop

if TYPE_CHECKING:
    from tests.sim.coroutines import SimAsyncLoop

LATE_TICK_MS = 100
TICK_MS = 100

DUTIES = DutySettings(
    fallback_ms=1_000,
    late_tick_ms=LATE_TICK_MS,
    tick_ms=TICK_MS,
    offer_timeout_ms=1_500,
    heartbeat_interval_ms=500,
    heartbeats_missed_max=4,
    avoid_ms=2_000,
    avoid_alone_ms=200,
    unresponsive_retry_ms=2_000,
    claim_slice_ms=2_000,
    leader_call_ms=500,
)
"""Shorter than the real ones, so that much happens in a few seconds. `fallback_ms` as in `plan.TIMINGS`."""


class DutyClock:
    """`node.duties.clock.Clock` of one life of a process."""

    def __init__(self, clock: SimClock, loop: SimLoop) -> None:
        self._clock = clock
        self._loop = loop

    def monotonic_s(self) -> float:
        """Seconds on the machine's clock."""
        return self._clock.monotonic_s()

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Event:
        """Run `callback` when the machine's clock shows this."""
        return self._loop.call_later(max(0.0, when_s - self._clock.monotonic_s()), callback)


class Edge:
    """What stands on a core in a real node: its awaitable face, and the duties. Dies with its process."""

    def __init__(self, *, run: int, peers: Peers, loop: SimAsyncLoop, duty_clock: DutyClock) -> None:
        self.loop = loop
        self._duty_clock = duty_clock
        # The process hears of installs, refusals and faults itself, before this does.
        self.replica = NodeReplica(
            run_id=f"{run:016x}",
            version="0",
            peers=peers,
            on_installed=_nothing,
            on_fatal=lambda _: None,
            on_state_differs=lambda _: None,
            on_rebuilt=lambda _: None,
        )
        self._duties: Duties | None = None

    def begin(self, core: Core) -> None:
        """The core is there: take up the duties, before it starts."""
        self.replica.bind(core, [])
        self._duties = Duties(self.replica, self._duty_clock, DUTIES)

    @property
    def duties(self) -> Duties:
        """The duties of this process."""
        assert self._duties is not None
        return self._duties


def _nothing() -> None:
    """Nobody else has to hear of it."""
