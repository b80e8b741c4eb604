"""Work rows: what a command left to be done because it was more than one command may do (DESIGN.md: apply
is bounded).

A row is durable, numbered in the order it was added, and drained by the leader's `DoWork` in steps of at most
`limits.SIDE_EFFECTS_MAX` effects; what a step leaves goes to the end of the line. The nouns register how their kinds of
work are drained in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from statemachine import limits
from statemachine.commands import DoWork
from statemachine.context import Context
from statemachine.keys import end_of, from_u64, u64
from statemachine.outcome import Item, Outcome, accepted
from statemachine.store import Reader

_TABLE = b"w"


class WorkRow(msgspec.Struct, array_like=True, frozen=True):
    """Work left to do: its kind, and what the drain function of that kind needs to go on."""

    kind: str
    payload: dict[str, int | str]


Drain = Callable[[Context, dict[str, int | str], int], tuple[int, dict[str, int | str] | None]]
"""(context, payload, effects_max) -> (effects used, the payload that is left, or None when done).

Runs in the step of a `DoWork`, which has no project of its own: the payload names what it is about. It
must use at least one effect while it is not done, and must not refuse: nobody is there to be told.
"""

KINDS: dict[str, Drain] = {}

_encoder = msgspec.msgpack.Encoder(order="sorted")
_decoder = msgspec.msgpack.Decoder(WorkRow)


def add(ctx: Context, kind: str, payload: dict[str, int | str]) -> None:
    """Leave work for later steps."""
    if kind not in KINDS:
        raise AssertionError(f"nobody drains work of kind {kind!r}")
    ctx.state.put(_TABLE + u64(ctx.meta.next_work), _encoder.encode(WorkRow(kind, payload)))
    ctx.meta.next_work += 1


def scan(reader: Reader) -> Iterator[tuple[int, WorkRow]]:
    """(number, row) of all work that is left, oldest first."""
    for key, data in reader.scan(_TABLE, end_of(_TABLE)):
        yield from_u64(key[1:]), _decoder.decode(data)


def waiting(reader: Reader) -> bool:
    """Whether there is work: the leader then proposes `DoWork`."""
    return next(iter(reader.scan(_TABLE, end_of(_TABLE))), None) is not None


def _do_work(ctx: Context, _: DoWork) -> Outcome:
    effects_left = limits.SIDE_EFFECTS_MAX
    for number, row in list(_first_rows(ctx.state)):
        if effects_left <= 0:
            break
        effects_left -= _drain(ctx, number, row, effects_left)
    used = limits.SIDE_EFFECTS_MAX - effects_left
    if used == 0:
        return Outcome(ctx.meta.revision, (Item(0),))
    return accepted(Item(200, numbers=(used,), revision=ctx.meta.revision))


def _first_rows(reader: Reader) -> Iterator[tuple[int, WorkRow]]:
    """As many rows as one step could finish, since each costs at least one effect."""
    for count, numbered in enumerate(scan(reader)):
        if count == limits.SIDE_EFFECTS_MAX:
            return
        yield numbered


def _drain(ctx: Context, number: int, row: WorkRow, effects_max: int) -> int:
    used, left = KINDS[row.kind](ctx, row.payload, effects_max)
    ctx.state.delete(_TABLE + u64(number))
    if left is None:
        return max(used, 1)
    if used <= 0:
        raise AssertionError(f"work of kind {row.kind!r} made no progress")
    # To the end of the line: a million tasks to redrive must not hold up the few that an agent left behind.
    add(ctx, row.kind, left)
    return used


HANDLERS: dict[type[Any], Callable[[Context, Any], Outcome]] = {DoWork: _do_work}
