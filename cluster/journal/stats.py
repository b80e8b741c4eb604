"""What the journal tells the metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JournalStats:
    """One reading.

    spare_ready is False while no empty segment is reserved, normally because the disk is full: the node still
    writes what fits into the current segment, but should take no new load.
    """

    fsyncs: int
    last_fsync_s: float
    total_fsync_s: float
    segments: int
    entries: int
    total_bytes: int
    cached_bytes: int
    spare_ready: bool
