"""The ordered key-value view the state machine reads and writes, and the overlay that makes a command all or
nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import msgspec

R = TypeVar("R", bound=msgspec.Struct)

_Table = dict[bytes, Any]
"""Pending writes: key to new bytes, to a record, or to None, which deletes."""

_ABSENT: Any = object()
_encode = msgspec.msgpack.Encoder().encode


class Reader(Protocol):
    """A consistent view of the state. Keys are 1 to 200 bytes and ordered bytewise."""

    def get(self, key: bytes) -> bytes | None:
        """The value under a key, or None."""

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, end) with their values, ascending, or descending with `reverse`."""


class Overlay:
    """Writes on top of a reader, seen by its own reads at once, until they are taken back to a mark.

    Keys are kept apart by their first byte, the table, so that a scan of one table sorts only what was
    written to it. What stands under a key may be a RECORD that is changed in place (`own`): the few records that
    every transition changes, a queue's or an agent's load, are so decoded and encoded once an entry. Nobody sees the
    difference: whoever asks for bytes gets those of the record as it is now.
    """

    __slots__ = ("_below", "_get_below", "_owned", "_records", "_tables", "_undo")

    def __init__(self, below: Reader) -> None:
        self._below = below
        self._get_below = below.get
        self._tables: defaultdict[int, _Table] = defaultdict(dict)
        self._records: dict[bytes, _Table] = {}
        self._undo: list[tuple[_Table, bytes, Any]] = []
        # Keys of the records whose bytes as of the last mark are among what can be undone.
        self._owned: set[bytes] = set()

    def get(self, key: bytes) -> bytes | None:
        table = self._tables.get(key[0])
        if table is not None:
            value = table.get(key, _ABSENT)
            if value is not _ABSENT:
                return _bytes_of(value)
        return self._get_below(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        table = self._tables[key[0]]
        self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key; harmless when it is absent."""
        table = self._tables[key[0]]
        self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = None

    def look(self, key: bytes, decode: Callable[[bytes], R]) -> R | None:
        """The record under a key. NOT TO BE CHANGED, nor kept beyond the command: the next one may change it."""
        table = self._tables.get(key[0])
        value = _ABSENT if table is None else table.get(key, _ABSENT)
        if value is _ABSENT:
            value = self._get_below(key)
        if type(value) is bytes:
            return decode(value)
        record: R | None = value
        return record

    def own(self, key: bytes, decode: Callable[[bytes], R]) -> R | None:
        """The record under a key, to be changed in place, for this and all later commands of the entry."""
        table = self._tables[key[0]]
        value = table.get(key, _ABSENT)
        if value is _ABSENT or value is None or type(value) is bytes:
            data = self._get_below(key) if value is _ABSENT else value
            if data is None:
                return None
            record = decode(data)
            self.put_record(key, record)
            return record
        if key not in self._owned:
            self._undo.append((table, key, _encode(value)))
            self._owned.add(key)
        owned: R = value
        return owned

    def put_record(self, key: bytes, record: msgspec.Struct) -> None:
        """Set a key to a record (array-like), which belongs to the overlay from now on."""
        table = self._tables[key[0]]
        self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = record
        self._records[key] = table
        self._owned.add(key)

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
        return _merge(below, [(key, _bytes_of(table[key])) for key in keys], reverse=reverse)

    def begin(self) -> None:
        """What was written so far is for good: no mark reaches back beyond this."""
        self._undo.clear()
        self._owned.clear()

    def mark(self) -> int:
        """The place to which `undo` goes back. A record that was taken before must be taken again (`own`) to be
        changed."""
        self._owned.clear()
        return len(self._undo)

    def undo(self, mark: int = 0) -> None:
        """Take back everything written since a mark, or since `begin`."""
        undo = self._undo
        while len(undo) > mark:
            table, key, value = undo.pop()
            if value is _ABSENT:
                del table[key]
            else:
                table[key] = value
        self._owned.clear()

    def writes(self) -> list[tuple[bytes, bytes | None]]:
        """All writes in key order, tables in order: the same on every node whatever order handlers wrote
        in."""
        for key, table in self._records.items():
            if key in table:
                table[key] = _bytes_of(table[key])
        self._records.clear()
        out: list[tuple[bytes, bytes | None]] = []
        for number in sorted(self._tables):
            out.extend(sorted(self._tables[number].items()))
        return out


def _bytes_of(value: Any) -> bytes | None:
    if value is None or type(value) is bytes:
        return value
    return _encode(value)


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
