"""The newest entries, in memory."""

from __future__ import annotations

from cluster.journal.slices import Entry

# What a tuple, two integers, a bytes object and a list slot take beside the command itself.
ENTRY_OVERHEAD_BYTES = 160
_SWEEP_MIN = 256


class EntryCache:
    """An unbroken run of entries up to the log's last, within a byte limit that only `evict` enforces."""

    __slots__ = ("_entries", "_evicted", "_start", "bytes_max", "cached_bytes")

    def __init__(self, next_index: int, bytes_max: int) -> None:
        self._entries: list[Entry | None] = []
        self._start = next_index
        self._evicted = 0
        self.bytes_max = bytes_max
        self.cached_bytes = 0

    def get(self, index: int) -> Entry | None:
        """The entry, if it is here; the index must not be beyond the end of the log."""
        position = index - self._start
        return self._entries[position] if position >= 0 else None

    def append(self, entry: Entry) -> None:
        """Add the entry that follows the last one."""
        self._entries.append(entry)
        self.cached_bytes += len(entry[0]) + ENTRY_OVERHEAD_BYTES

    def truncate(self, index: int) -> None:
        """Forget `index` and everything after it."""
        keep = max(index - self._start, 0)
        for entry in self._entries[keep:]:
            if entry is not None:
                self.cached_bytes -= len(entry[0]) + ENTRY_OVERHEAD_BYTES
        del self._entries[keep:]
        self._start = min(self._start, index)
        self._evicted = min(self._evicted, len(self._entries))

    def evict(self, end: int, first: int) -> None:
        """Forget what is before `first`, and the oldest entries below `end` while there are too many bytes.

        `end` is the first index that is not durable yet: the disk cannot give that back.
        """
        limit = min(end - self._start, len(self._entries))
        unwanted = first - self._start
        while self._evicted < limit and (self.cached_bytes > self.bytes_max or self._evicted < unwanted):
            entry = self._entries[self._evicted]
            if entry is not None:
                self.cached_bytes -= len(entry[0]) + ENTRY_OVERHEAD_BYTES
            self._entries[self._evicted] = None
            self._evicted += 1
        # Sweep the empty slots out only when they are the majority, so that eviction stays constant in cost.
        if self._evicted > _SWEEP_MIN and self._evicted * 2 > len(self._entries):
            del self._entries[: self._evicted]
            self._start += self._evicted
            self._evicted = 0
