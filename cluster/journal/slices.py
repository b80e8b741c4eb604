"""A part of the log that is read only as far as somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

Entry = tuple[bytes, int, int]


class LogSlice(Sequence[Entry]):
    """Entries `start` to `stop` (exclusive) of the log, in memory or on disk; read when they are taken.

    Good until the log is truncated or trimmed within it. Slicing it makes a list, which is good for ever:
    that is what goes into a message.
    """

    __slots__ = ("_entry", "_start", "_stop")

    def __init__(self, entry: Callable[[int], Entry], start: int, stop: int) -> None:
        self._entry = entry
        self._start = start
        self._stop = max(start, stop)

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entry, range(self._start, self._stop))

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        indexes = range(self._start, self._stop)[item]
        if isinstance(indexes, int):
            return self._entry(indexes)
        return [self._entry(index) for index in indexes]
