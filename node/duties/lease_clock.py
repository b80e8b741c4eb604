"""The clock that leases are counted on: it runs only while this leader is awake and a majority follows it.

A lease that ended while the leader could not hear a renewal would punish a healthy worker. So the clock stands still
while the process or its machine is paused (its own ticks come late) and while no majority confirms the leadership. It
never runs faster than real time: a worker that counts its lease from when it sent always stops first.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.replica import Replica
from node.duties.clock import Clock, Timer
from node.duties.settings import DutySettings


class LeaseClock:
    """Lease time in seconds, for one term of leadership of this replica."""

    def __init__(self, clock: Clock, replica: Replica, settings: DutySettings, on_tick: Callable[[], None]) -> None:
        self._clock = clock
        self._replica = replica
        self._tick_s = settings.tick_ms / 1000
        self._step_s_max = (settings.tick_ms + settings.late_tick_ms) / 1000
        self._fallback_s = settings.fallback_ms / 1000
        self._on_tick = on_tick
        self._lease_s = 0.0
        self._ticked_s = clock.monotonic_s()
        self._timer: Timer | None = None
        self.stood_still_s = 0.0

    def start(self) -> None:
        """Begin to tick."""
        self._ticked_s = self._clock.monotonic_s()
        self._arm()

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def now_s(self) -> float:
        """Lease time. What is due is decided in ticks only.

        Between two ticks it may run ahead by a step that the next tick takes back: deadlines made from it are then a
        step late, never early.
        """
        return self._lease_s + min(self._clock.monotonic_s() - self._ticked_s, self._step_s_max)

    @property
    def believable(self) -> bool:
        """Whether a majority confirmed this leader so lately that no other can have been elected."""
        confirmed_s = self._replica.leadership_confirmed_s()
        return confirmed_s is not None and confirmed_s < self._fallback_s

    def _arm(self) -> None:
        self._timer = self._clock.call_at(self._clock.monotonic_s() + self._tick_s, self._tick)

    def _tick(self) -> None:
        now_s = self._clock.monotonic_s()
        passed_s = now_s - self._ticked_s
        counted_s = passed_s if passed_s <= self._step_s_max else self._tick_s
        if not self.believable:
            counted_s = 0.0
        self._lease_s += counted_s
        self.stood_still_s += passed_s - counted_s
        self._ticked_s = now_s
        self._arm()
        self._on_tick()
