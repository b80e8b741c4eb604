"""When a follower applies: after it has acknowledged what it holds, not before.

An acknowledgement leaves when the disk is done, from the same thread that applies. Were older entries applied while the
disk works, every write would wait for that: at 64 writes an entry it was two thirds of their way through the cluster.
"""

from __future__ import annotations

from cluster.journal import Journal
from cluster.ports import Clock

WAIT_MAX_S = 0.005
"""A disk that takes longer than this is not waited for: reads from this node's own copy would fall behind."""


class ApplyTurn:
    """Whether it is the apply loop's turn. Not for leaders: theirs is the copy that clients wait for."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._until: tuple[int, float] | None = None

    @property
    def waits(self) -> bool:
        """Whether entries wait for the disk now; its end pumps, and so does every tick."""
        return self._until is not None

    def has_come(self, *, leading: bool) -> bool:
        """Ask when there is something to apply. What is written later than the first time it was refused is not waited
        for, so a steady stream of entries does not put it off for ever."""
        journal = self._journal
        if leading or journal.oldest_unsynced_since_s is None:
            self._until = None
            return True
        now_s = self._clock.monotonic_s()
        sequence, deadline_s = self._until or (journal.written_sequence, now_s + WAIT_MAX_S)
        come = journal.durable_sequence >= sequence or now_s >= deadline_s
        self._until = None if come else (sequence, deadline_s)
        return come
