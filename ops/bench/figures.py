"""What one run of a load measured, and the median of several."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figures:
    """`rate` in units (tasks, keys) a second; latencies of whole requests; `errors` are answers other than 2xx and
    broken connections, and count as no unit."""

    rate: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int

    @classmethod
    def from_latencies(cls, latencies_ms: Sequence[float], errors: int, elapsed_s: float, units: int) -> Figures:
        ordered = sorted(latencies_ms)
        good = len(ordered) - errors
        return cls(good * units / elapsed_s, quantile(ordered, 0.50), quantile(ordered, 0.99), len(ordered), errors)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the ordered ones do not exceed; 0 if there are none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(runs: Sequence[Figures]) -> Figures:
    """Field by field; requests and errors are summed."""
    return Figures(
        rate=statistics.median(run.rate for run in runs),
        p50_ms=statistics.median(run.p50_ms for run in runs),
        p99_ms=statistics.median(run.p99_ms for run in runs),
        requests=sum(run.requests for run in runs),
        errors=sum(run.errors for run in runs),
    )
