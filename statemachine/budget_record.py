"""The record of a budget: what may be spent, what was, and what is set aside for tasks that agents hold.

The key is project, scope and id. Agents belong to no project, so their budgets stand under project number 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from statemachine import limits
from statemachine.keys import end_of, name
from statemachine.store import Overlay, Reader

PROJECT, SESSION, AGENT = "project", "session", "agent"
SCOPES = (PROJECT, SESSION, AGENT)
"""What a budget may be of, by the number in its key: only ever add at the end."""

TOKENS, COST = "tokens", "cost"

_TABLE = b"b"
_prefix = struct.Struct(">cIB").pack


class Unit(NamedTuple):
    """One of the two things a budget counts: tokens, or micro-dollars."""

    name: str
    most: int | None
    spent: int
    reserved: int
    reserve: int

    @property
    def room(self) -> int | None:
        """How many more tasks may be granted now; None: any number.

        With nothing to reserve only what is spent tells, and nobody can say how many tasks that will allow.
        """
        if self.most is None:
            # Whatever is set aside with no limit at all: the sum must stay a number that a record can hold.
            return None if self.reserved + self.reserve <= limits.BUDGET_SUM_MAX else 0
        free = self.most - self.spent - self.reserved
        if not self.reserve:
            return None if free > 0 else 0
        return max(0, free // self.reserve)

    @property
    def exceeded(self) -> bool:
        """Whether no task could be granted even if none was held: only another limit, or a reset, changes that."""
        return self.most is not None and self.spent + max(self.reserve, 1) > self.most


class Budget(msgspec.Struct, array_like=True):
    """A budget. Costs are micro-dollars; a maximum of None is no limit.

    `reserve_*` is set aside with each grant, `reserved_*` the sum of what is, for `tasks` held tasks. Revision and time
    of update are those of the limits and of resets: what is spent and reserved changes with every task. `since` is when
    counting began.
    """

    project_no: int
    project: str
    scope: str
    id: str
    created_at: int
    created_revision: int
    updated_at: int
    revision: int
    since: int
    max_tokens: int | None = None
    max_cost: int | None = None
    reserve_tokens: int = 0
    reserve_cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    reserved_tokens: int = 0
    reserved_cost: int = 0
    tasks: int = 0

    @property
    def tokens(self) -> int:
        """What was spent: input and output count alike."""
        return self.input_tokens + self.output_tokens

    @property
    def units(self) -> tuple[Unit, Unit]:
        """Tokens and costs."""
        return (
            Unit(TOKENS, self.max_tokens, self.tokens, self.reserved_tokens, self.reserve_tokens),
            Unit(COST, self.max_cost, self.cost, self.reserved_cost, self.reserve_cost),
        )

    @property
    def room(self) -> int | None:
        """How many more tasks may be granted now; None: any number."""
        return min((room for unit in self.units if (room := unit.room) is not None), default=None)

    @property
    def exceeded(self) -> bool:
        """Whether it is used up."""
        return any(unit.exceeded for unit in self.units)

    @property
    def name(self) -> str:
        """How watchers, and sentences, name it."""
        return f"{self.scope}/{self.id}"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Budget)


def key(project_no: int, scope: str, budget_id: str) -> bytes:
    """The key of a budget."""
    return _prefix(_TABLE, 0 if scope == AGENT else project_no, SCOPES.index(scope)) + name(budget_id)


def get(reader: Reader, project_no: int, scope: str, budget_id: str) -> Budget | None:
    """The budget; for an agent's the project does not count."""
    data = reader.get(key(project_no, scope, budget_id))
    return None if data is None else _decoder.decode(data)


def put(state: Overlay, budget: Budget) -> None:
    """Write a budget."""
    state.put(key(budget.project_no, budget.scope, budget.id), _encoder.encode(budget))


def delete(state: Overlay, budget: Budget) -> None:
    """Remove a budget."""
    state.delete(key(budget.project_no, budget.scope, budget.id))


def scan(
    reader: Reader, project_no: int, scope: str, *, after: str | None = None, reverse: bool = False
) -> Iterator[Budget]:
    """Budgets of one scope by id, of agents those of the cluster; behind an id, in the order asked for."""
    prefix = _prefix(_TABLE, 0 if scope == AGENT else project_no, SCOPES.index(scope))
    start, end = prefix, end_of(prefix)
    if after is not None and reverse:
        end = prefix + name(after)
    elif after is not None:
        start = end_of(prefix + name(after))
    for _, data in reader.scan(start, end, reverse=reverse):
        yield _decoder.decode(data)


def everything(reader: Reader) -> Iterator[tuple[bytes, Budget]]:
    """(key, budget) of all there are."""
    for row_key, data in reader.scan(_TABLE, end_of(_TABLE)):
        yield row_key, _decoder.decode(data)
