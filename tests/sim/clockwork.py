"""Simulated time: one heap of events, and the clocks, loops and executors that run on it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from cluster.ports import Disk

START_MS = 1_700_000_000_000
"""The true Unix time at which every simulation begins."""

_EVENTS_MAX = 2_000_000
"""Of one simulation, some dozens of times what the busiest one has: an endless one must fail, not hang."""

Action = Callable[[], None]


class Event:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("action", "cancelled")

    def __init__(self, action: Action) -> None:
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """It will not happen."""
        self.cancelled = True


class Scheduler:
    """All events of a simulation in order of time; events of one moment in the order they were made."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Event]] = []
        self._number = 0

    def at(self, time_s: float, action: Action) -> Event:
        """Run `action` at that time, or now if it is past."""
        event = Event(action)
        self._number += 1
        heapq.heappush(self._heap, (max(time_s, self.now_s), self._number, event))
        return event

    def after(self, delay_s: float, action: Action) -> Event:
        """Run `action` in so many seconds."""
        return self.at(self.now_s + delay_s, action)

    def run_until(self, time_s: float, stop: Callable[[], bool] | None = None) -> bool:
        """Run events up to that time, or until `stop()` holds; returns whether it stopped early."""
        while self._heap and self._heap[0][0] <= time_s:
            self.now_s, _, event = heapq.heappop(self._heap)
            if event.cancelled:
                continue
            self.events += 1
            if self.events > _EVENTS_MAX:
                raise RuntimeError(f"{self.events} events by {self.now_s} s: something goes round in circles")
            event.action()
            if stop is not None and stop():
                return True
        self.now_s = max(self.now_s, time_s)
        return False


class Host(Protocol):
    """Whoever runs actions: one life of a simulated process. Drops them when it is dead, keeps them while paused."""

    def run(self, action: Action) -> None: ...


class SimClock:
    """One machine's clocks: the monotonic one drifts, the wall clock can be set."""

    def __init__(self, scheduler: Scheduler, base_s: float, rate: float) -> None:
        self._scheduler = scheduler
        self._base_s = base_s
        self.rate = rate
        self.offset_ms = 0

    def monotonic_s(self) -> float:
        """Seconds from the machine's own zero, at its own rate."""
        return self._base_s + self._scheduler.now_s * self.rate

    def wall_ms(self) -> int:
        """The machine's idea of Unix time."""
        return START_MS + self.offset_ms + int(self._scheduler.now_s * 1000)


class SimLoop:
    """`ports.Loop` of one life of a process."""

    def __init__(self, scheduler: Scheduler, host: Host, clock: SimClock, turn_s: float = 0.0) -> None:
        """`turn_s`: how long a turn takes; what is to come soon comes that late."""
        self._scheduler = scheduler
        self._host = host
        self._clock = clock
        self._turn_s = turn_s

    def call_later(self, delay_s: float, callback: Action) -> Event:
        """Run `callback` after `delay_s` seconds of the machine's clock."""
        return self._scheduler.after(delay_s / self._clock.rate, lambda: self._host.run(callback))

    def call_soon(self, callback: Action) -> None:
        """Run `callback` after the current event."""
        self._scheduler.after(self._turn_s, lambda: self._host.run(callback))


class DiskSpeed:
    """How long steps take on one machine. `stalled_until_s`: none ends before that time."""

    def __init__(self, rng: Random, typical_s: float) -> None:
        self._rng = rng
        self.typical_s = typical_s
        self.stalled_until_s = 0.0

    def done_at_s(self, now_s: float) -> float:
        """When a step that starts now will have happened."""
        took_s = self._rng.expovariate(1 / self.typical_s)
        return max(now_s, self.stalled_until_s) + took_s


_Job = tuple[Sequence[Action], Callable[[BaseException | None], None]]


class SimExecutor:
    """`ports.Executor` of one life of a process: every step happens at a time of its own, so that a crash, or anything
    else, falls between them."""

    def __init__(self, scheduler: Scheduler, host: Host, speed: DiskSpeed) -> None:
        self._scheduler = scheduler
        self._host = host
        self._speed = speed
        self._jobs: deque[_Job] = deque()
        self._busy = False

    def submit(self, steps: Sequence[Action], done: Callable[[BaseException | None], None]) -> None:
        """Run the steps in order, then `done`."""
        self._jobs.append((steps, done))
        if not self._busy:
            self._busy = True
            self._step(0)

    def close(self) -> None:
        """Nothing to let go."""

    def _step(self, position: int) -> None:
        at_s = self._speed.done_at_s(self._scheduler.now_s)
        self._scheduler.at(at_s, lambda: self._host.run(lambda: self._happen(position)))

    def _happen(self, position: int) -> None:
        steps, _ = self._jobs[0]
        error: BaseException | None = None
        try:
            if position < len(steps):
                steps[position]()
        except Exception as caught:  # noqa: BLE001 - as the real executor: handed to `done`
            error = caught
        if error is None and position + 1 < len(steps):
            self._step(position + 1)
            return
        self._scheduler.after(0.0, lambda: self._host.run(lambda: self._finish(error)))

    def _finish(self, error: BaseException | None) -> None:
        _, done = self._jobs.popleft()
        self._busy = bool(self._jobs)
        if self._busy:
            self._step(0)
        done(error)


class SimWriter:
    """`ports.DurableWriter` of one life of a process: a write and its fsync, each at a time of its own, in no order
    with what the executors do."""

    def __init__(self, scheduler: Scheduler, host: Host, speed: DiskSpeed, disk: Disk) -> None:
        self._scheduler = scheduler
        self._host = host
        self._speed = speed
        self._disk = disk

    def write(self, name: str, offset: int, data: bytes, done: Callable[[BaseException | None], None]) -> None:
        """Write, sync, `done`."""
        self._then(lambda: self._disk.write(name, offset, data), done, lambda: self._sync(name, done))

    def _sync(self, name: str, done: Callable[[BaseException | None], None]) -> None:
        self._then(lambda: self._disk.sync(name), done, lambda: done(None))

    def _then(self, step: Action, done: Callable[[BaseException | None], None], after: Action) -> None:
        def happen() -> None:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - as the real one: handed to `done`
                done(error)
            else:
                after()

        self._scheduler.at(self._speed.done_at_s(self._scheduler.now_s), lambda: self._host.run(happen))
