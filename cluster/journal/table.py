"""Where each entry of the log lies."""

from __future__ import annotations

from array import array
from bisect import bisect_left


class EntryTable:
    """Stream offset, record length and term of every entry from `first` on, 20 bytes each.

    Offsets grow with the index: an entry that replaces another is written later than everything before it.
    """

    __slots__ = ("_lengths", "_offsets", "_terms", "first", "last")

    def __init__(self, next_index: int) -> None:
        self.first = next_index
        self.last = next_index - 1
        self._offsets = array("Q")
        self._lengths = array("I")
        self._terms = array("Q")

    def __len__(self) -> int:
        return self.last - self.first + 1

    def append(self, offset: int, length_bytes: int, term: int) -> None:
        """Add the entry after the last one; its record lies at `offset`."""
        self._offsets.append(offset)
        self._lengths.append(length_bytes)
        self._terms.append(term)
        self.last += 1

    def truncate(self, index: int) -> None:
        """Forget `index` and everything after it."""
        keep = max(index - self.first, 0)
        del self._offsets[keep:], self._lengths[keep:], self._terms[keep:]
        self.first = min(self.first, index)
        self.last = index - 1

    def drop_before(self, index: int) -> None:
        """Forget everything before `index`, which must not be beyond the end."""
        gone = index - self.first
        if gone > 0:
            del self._offsets[:gone], self._lengths[:gone], self._terms[:gone]
            self.first = index

    def offset(self, index: int) -> int:
        """Stream offset of the entry's record."""
        return self._offsets[index - self.first]

    def length_bytes(self, index: int) -> int:
        """Length of the entry's record, header included."""
        return self._lengths[index - self.first]

    def term(self, index: int) -> int:
        """Term of the entry."""
        return self._terms[index - self.first]

    def first_at_or_after(self, offset: int) -> int:
        """The lowest index whose record starts at or after `offset`; last + 1 if none does."""
        if not self._offsets or self._offsets[-1] < offset:
            return self.last + 1
        return self.first + bisect_left(self._offsets, offset)
