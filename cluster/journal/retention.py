"""How far back the log stays when it is trimmed behind a snapshot."""

from __future__ import annotations

from collections.abc import Callable

from cluster.journal.options import JournalOptions
from cluster.journal.table import EntryTable


class Hold:
    """A promise that entries from `index` on stay until `release`, or until that takes `hold_bytes_max`."""

    def __init__(self, index: int, released: Callable[[Hold], None]) -> None:
        self.index = index
        self._released = released

    def release(self) -> None:
        """Give up the promise; harmless when done twice."""
        self._released(self)


class Retention:
    """Chooses the first entry to keep."""

    def __init__(self, options: JournalOptions) -> None:
        self._options = options
        self._holds: set[Hold] = set()

    def add(self, hold: Hold) -> None:
        """Respect this hold from now on."""
        self._holds.add(hold)

    def discard(self, hold: Hold) -> bool:
        """Forget the hold; True if it was still respected."""
        known = hold in self._holds
        self._holds.discard(hold)
        return known

    def first_kept(self, table: EntryTable, snapshot_index: int) -> int:
        """The lowest index that stays when a snapshot covers everything before `snapshot_index`."""
        end = table.offset(snapshot_index)
        first = table.first_at_or_after(max(end - self._options.log_keep_bytes, 0))
        if self._holds:
            held = min(hold.index for hold in self._holds)
            allowed = table.first_at_or_after(max(end - self._options.hold_bytes_max, 0))
            first = min(first, max(held, allowed))
        return min(max(first, table.first), snapshot_index)
