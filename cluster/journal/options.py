"""The journal's sizes."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
SEGMENT_BYTES_MIN = 4096


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """How much is kept where.

    segment_bytes: a file is preallocated at this size, and left for the next one when it is nearly full.
    cache_bytes: commands kept in memory, newest first; what is not yet durable is kept in any case.
    log_keep_bytes: log left behind a snapshot, so that a follower that was away briefly needs no image.
    hold_bytes_max: log that holds (running transfers) may keep behind a snapshot at most.
    """

    segment_bytes: int = 64 * MIB
    cache_bytes: int = 64 * MIB
    log_keep_bytes: int = 64 * MIB
    hold_bytes_max: int = 1024 * MIB

    def __post_init__(self) -> None:
        if self.segment_bytes < SEGMENT_BYTES_MIN:
            raise ValueError(f"segment_bytes must be at least {SEGMENT_BYTES_MIN}")
        if min(self.cache_bytes, self.log_keep_bytes, self.hold_bytes_max) < 0:
            raise ValueError("the journal's sizes cannot be negative")

    @property
    def roll_reserve_bytes(self) -> int:
        """Room below which the next group opens a new segment.

        Every group smaller than this stays within preallocated blocks, so a vote never needs new space.
        """
        return min(MIB, self.segment_bytes // 8)
