"""The last minute in figures: rates and latencies, in one slot a second, so that it costs the same whatever happens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from cluster.replica import Notice

WINDOW_S = 60
_BUCKETS_PER_DOUBLING = 4
_SHORTEST_S = 1e-5
_BUCKETS = 96
"""Four buckets a doubling from 10 microseconds on reach beyond two minutes; a percentile is right within a fifth."""

COUNTED = {
    "task.created": "tasks_created",
    "task.completed": "tasks_completed",
    "task.failed": "tasks_failed",
    "event.appended": "appends",
    "session.created": "sessions_created",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """`rates` per second over the window; `latency_ms` p50, p95, p99 of requests that do not wait on purpose."""

    window_s: int
    rates: dict[str, float]
    latency_ms: dict[str, float | None]


class _Slot:
    __slots__ = ("counts", "durations", "second")

    def __init__(self) -> None:
        self.second = -1
        self.counts: dict[str, int] = {}
        self.durations: dict[int, int] = {}

    def begin(self, second: int) -> None:
        self.second = second
        self.counts = {}
        self.durations = {}


class Minute:
    """Counts and durations of the last `WINDOW_S` seconds."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._slots = [_Slot() for _ in range(WINDOW_S)]

    def _slot(self) -> _Slot:
        second = int(self._monotonic_s())
        slot = self._slots[second % WINDOW_S]
        if slot.second != second:
            slot.begin(second)
        return slot

    def count(self, name: str, number: int = 1) -> None:
        """Add to a rate."""
        counts = self._slot().counts
        counts[name] = counts.get(name, 0) + number

    def request(self, duration_s: float, *, failed: bool, waits: bool) -> None:
        """One answered request; those that wait on purpose say nothing about latency."""
        slot = self._slot()
        counts = slot.counts
        counts["requests"] = counts.get("requests", 0) + 1
        if failed:
            counts["errors"] = counts.get("errors", 0) + 1
        if not waits:
            bucket = _bucket_of(duration_s)
            slot.durations[bucket] = slot.durations.get(bucket, 0) + 1

    def on_notice(self, notice: Notice) -> None:
        """Count what an applied entry did."""
        if notice.revision >= notice.first_revision and not notice.gap:
            self.count("revisions", notice.revision - notice.first_revision + 1)
        for change in notice.changes:
            name = COUNTED.get(change.type)
            if name is not None:
                self.count(name)

    def figures(self) -> Figures:
        """The window as it is now."""
        now = int(self._monotonic_s())
        counts = dict.fromkeys(("requests", "errors", "revisions", *COUNTED.values()), 0)
        durations = [0] * _BUCKETS
        for slot in self._slots:
            if not now - WINDOW_S < slot.second <= now:
                continue
            for name, number in slot.counts.items():
                counts[name] = counts.get(name, 0) + number
            for bucket, number in slot.durations.items():
                durations[bucket] += number
        rates = {name: round(number / WINDOW_S, 3) for name, number in counts.items()}
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return Figures(WINDOW_S, rates, {name: _percentile_ms(durations, share) for name, share in shares.items()})


def _bucket_of(duration_s: float) -> int:
    if duration_s <= _SHORTEST_S:
        return 0
    return min(math.ceil(math.log2(duration_s / _SHORTEST_S) * _BUCKETS_PER_DOUBLING), _BUCKETS - 1)


def _percentile_ms(durations: list[int], share: float) -> float | None:
    wanted = math.ceil(sum(durations) * share)
    if wanted == 0:
        return None
    seen = 0
    for bucket, number in enumerate(durations):
        seen += number
        if seen >= wanted:
            return round(_SHORTEST_S * 2 ** (bucket / _BUCKETS_PER_DOUBLING) * 1_000, 3)
    raise AssertionError("the buckets hold fewer than their sum")
