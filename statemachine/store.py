"""The ordered key-value view the state machine reads and writes, and the overlay that makes a command all or
nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Protocol

Writes = dict[bytes, bytes | None]
"""Pending writes: key to new value, None deletes."""


class Reader(Protocol):
    """A consistent view of the state. Keys are 1 to 200 bytes and ordered bytewise."""

    def get(self, key: bytes) -> bytes | None:
        """The value under a key, or None."""

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, end) with their values, ascending, or descending with `reverse`."""


class Overlay:
    """Writes on top of a reader: seen by its own reads at once, by nobody else until they are merged.

    Keys are kept apart by their first byte, the table, so that a scan of one table sorts only what was
    written to it.
    """

    __slots__ = ("_below", "_tables")

    def __init__(self, below: Reader) -> None:
        self._below = below
        self._tables: dict[int, Writes] = {}

    def get(self, key: bytes) -> bytes | None:
        table = self._tables.get(key[0])
        if table is not None and key in table:
            return table[key]
        return self._below.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        table = self._tables.get(key[0])
        if table is None:
            table = self._tables[key[0]] = {}
        table[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key; harmless when it is absent."""
        table = self._tables.get(key[0])
        if table is None:
            table = self._tables[key[0]] = {}
        table[key] = None

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """As `Reader.scan`. What is written while a scan runs may or may not be seen by it."""
        if end[0] != start[0] and end != bytes([start[0] + 1]):
            raise AssertionError("a scan of an overlay stays within one table")
        table = self._tables.get(start[0])
        below = self._below.scan(start, end, reverse=reverse)
        if not table:
            return below
        keys = sorted(key for key in table if start <= key < end)
        if not keys:
            return below
        if reverse:
            keys.reverse()
        return _merge(below, [(key, table[key]) for key in keys], reverse=reverse)

    def merge(self, upper: Overlay) -> None:
        """Take over everything `upper` wrote."""
        for number, writes in upper._tables.items():
            table = self._tables.get(number)
            if table is None:
                self._tables[number] = writes
            else:
                table.update(writes)

    def clear(self) -> None:
        """Forget every write."""
        self._tables.clear()

    @property
    def empty(self) -> bool:
        """Whether nothing was written."""
        return not self._tables

    def writes(self) -> list[tuple[bytes, bytes | None]]:
        """All writes in key order, tables in order: the same on every node whatever order handlers wrote
        in."""
        out: list[tuple[bytes, bytes | None]] = []
        for number in sorted(self._tables):
            out.extend(sorted(self._tables[number].items()))
        return out


def _merge(
    below: Iterator[tuple[bytes, bytes]], above: list[tuple[bytes, bytes | None]], *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    for key, value in below:
        while position < len(above) and (above[position][0] > key if reverse else above[position][0] < key):
            if (fresh := above[position][1]) is not None:
                yield above[position][0], fresh
            position += 1
        if position < len(above) and above[position][0] == key:
            if (fresh := above[position][1]) is not None:
                yield key, fresh
            position += 1
        else:
            yield key, value
    for key, fresh in above[position:]:
        if fresh is not None:
            yield key, fresh


class MemoryStore:
    """The state in memory: the store of the simulator, of tests and of throw-away nodes.

    `apply` is atomic with regard to `snapshot`: a snapshot is a copy that later writes do not touch.
    """

    def __init__(self, items: dict[bytes, bytes] | None = None) -> None:
        self._items = dict(items or {})
        self._keys = sorted(self._items)

    def get(self, key: bytes) -> bytes | None:
        """The value under a key, or None."""
        return self._items.get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """As `Reader.scan`; the store must not be written while a scan runs (overlays are)."""
        first, last = bisect_left(self._keys, start), bisect_left(self._keys, end)
        positions = range(last - 1, first - 1, -1) if reverse else range(first, last)
        for position in positions:
            key = self._keys[position]
            yield key, self._items[key]

    def apply(self, writes: list[tuple[bytes, bytes | None]]) -> None:
        """Make the writes visible, all at once."""
        for key, value in writes:
            if value is None:
                if self._items.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._items:
                    self._keys.insert(bisect_left(self._keys, key), key)
                self._items[key] = value

    def snapshot(self) -> MemoryStore:
        """An independent copy of the whole state."""
        return MemoryStore(self._items)

    def __len__(self) -> int:
        return len(self._items)
