"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """CLOCK_MONOTONIC, and the wall clock."""

    monotonic_s = staticmethod(time.monotonic)

    @staticmethod
    def wall_ms() -> int:
        """Unix time, milliseconds."""
        return time.time_ns() // 1_000_000
