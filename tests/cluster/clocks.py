"""A clock that only tests move."""

from __future__ import annotations


class ManualClock:
    """`ports.Clock`: `advance` moves both clocks, `wall` is set at will."""

    def __init__(self, wall_ms: int = 1_700_000_000_000) -> None:
        self._now_s = 1.0
        self.wall = wall_ms

    def monotonic_s(self) -> float:
        """Seconds since a start."""
        return self._now_s

    def wall_ms(self) -> int:
        """Unix time."""
        return self.wall

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self._now_s += seconds
        self.wall += int(seconds * 1000)
