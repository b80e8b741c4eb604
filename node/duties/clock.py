"""Time for everything that waits in this package: given, so that tests decide what time it is."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A pending `call_at`."""

    def cancel(self) -> None:
        """Forget the call; harmless when it already ran."""


class Clock(Protocol):
    """The clock of one node, and its alarm."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back."""

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once, on the loop's thread, when `monotonic_s()` has reached `when_s` or soon after."""


class LoopClock:
    """The real clock: the running asyncio loop's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def monotonic_s(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        """A timer of the loop."""
        return self._loop.call_at(when_s, callback)


class ManualTimer:
    """A timer of a `ManualClock`."""

    __slots__ = ("callback", "cancelled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the call."""
        self.cancelled = True


class ManualClock:
    """A clock that stands still until it is told to go on. For tests, of users' own code too."""

    def __init__(self, start_s: float = 1_000.0, start_ms: int = 1_767_225_600_000) -> None:
        self._start_s = start_s
        self._start_ms = start_ms
        self._now_s = start_s
        self._order = itertools.count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def monotonic_s(self) -> float:
        """The time it was told."""
        return self._now_s

    def now_ms(self) -> int:
        """Unix milliseconds that move with `monotonic_s`."""
        return self._start_ms + round((self._now_s - self._start_s) * 1000)

    def call_at(self, when_s: float, callback: Callable[[], None]) -> ManualTimer:
        """A timer that `advance` and `jump` run."""
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (when_s, next(self._order), timer))
        return timer

    @property
    def timers(self) -> int:
        """How many calls are pending."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def step(self, until_s: float) -> bool:
        """Run the next timer due by `until_s` at its own time; False, and the time is `until_s`, when there is none."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if not self._timers or self._timers[0][0] > until_s:
            self._now_s = max(self._now_s, until_s)
            return False
        when_s, _, timer = heapq.heappop(self._timers)
        self._now_s = max(self._now_s, when_s)
        timer.callback()
        return True

    async def advance(self, seconds: float) -> None:
        """Let time pass: every timer runs at its own time, and what it woke goes on before the next one runs."""
        until_s = self._now_s + seconds
        while self.step(until_s):
            await settle()
        await settle()

    async def jump(self, seconds: float) -> None:
        """As if the process had been stopped: time passes at once, timers that came due meanwhile run late."""
        self._now_s += seconds
        while self.step(self._now_s):
            await settle()
        await settle()


SETTLE_TURNS = 20
"""Turns of the loop after which a chain of callbacks without input or output has come to its end."""


async def settle() -> None:
    """Let everything that is ready run."""
    loop = asyncio.get_running_loop()
    for _ in range(SETTLE_TURNS):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn
