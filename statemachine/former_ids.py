"""Ids of removed resources, and the number that each had reached, kept for a while so that who gets the id counts on.

What is kept stands in the row of the id itself, where whoever makes a resource looks anyway: 16 bytes (number, time of
removal) instead of 8. A second row, by time, says which to forget.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal

from statemachine import limits
from statemachine.context import Context
from statemachine.keys import end_of, from_u64, u64
from statemachine.store import Reader

_BOTH = 16


class FormerIds:
    """Those of one kind. `table` holds the rows by time, `ids` the rows of the ids, `counter` is the field of Meta that
    counts them."""

    def __init__(self, table: bytes, ids: bytes, counter: Literal["former_tasks", "former_sessions"]) -> None:
        self._table = table
        self._ids = ids
        self._counter = counter

    def keep(self, ctx: Context, id_key: bytes, number: int) -> None:
        """The resource of this id's row was removed; 0: it had reached nothing, and leaves nothing. Of those that were
        removed before it some may be forgotten."""
        if number:
            at = u64(ctx.time_ms)
            ctx.state.put(id_key, u64(number) + at)
            ctx.state.put(self._table + at + id_key[1:], b"")
            self._count(ctx, 1)
        else:
            ctx.state.delete(id_key)
        self._forget(ctx)

    def take_over(self, ctx: Context, id_key: bytes, row: bytes | None) -> int:
        """A new resource gets this id -> the number of the former one by what the id's row says; 0 for none."""
        if row is None or len(row) != _BOTH:
            return 0
        ctx.state.delete(self._table + row[8:] + id_key[1:])
        self._count(ctx, -1)
        return from_u64(row[:8])

    def scan(self, reader: Reader) -> Iterator[tuple[int, bytes]]:
        """(when it was removed, the row of its id) of each, longest ago first."""
        for key, _ in reader.scan(self._table, end_of(self._table)):
            yield from_u64(key[1:9]), self._ids + key[9:]

    def _forget(self, ctx: Context) -> None:
        """Each removal forgets more than it adds, as long as there is something to forget."""
        for at, id_key in list(islice(self.scan(ctx.state), limits.FORMER_IDS_FORGOTTEN_PER_REMOVAL)):
            few = getattr(ctx.meta, self._counter) <= limits.FORMER_IDS_MAX
            if few and at + limits.FORMER_ID_KEPT_MS > ctx.time_ms:
                return
            ctx.state.delete(self._table + u64(at) + id_key[1:])
            ctx.state.delete(id_key)
            self._count(ctx, -1)

    def _count(self, ctx: Context, delta: int) -> None:
        setattr(ctx.meta, self._counter, getattr(ctx.meta, self._counter) + delta)
