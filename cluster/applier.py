"""Entries of the log -> writes of the state -> outcomes for whoever waits and notices for whoever listens.

All committed entries of a moment go into one transaction of the state, within a bound so that heartbeats are not late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cluster.engine import MEMBERSHIP, NO_OP
from cluster.journal import Journal
from cluster.ports import Clock
from cluster.replica import Metrics, Notice
from cluster.state import Position, State, next_chain
from statemachine.changes import Change
from statemachine.entry import Batch, Header, decode_entry
from statemachine.outcome import Outcome
from statemachine.store import Reader

_SLICE_S = 0.02
"""Entries are applied for about this long in one go; the rest follows in the next tick."""


class Applied(Protocol):
    """What applying an entry gives; `statemachine.machine.Applied` is one."""

    @property
    def writes(self) -> list[tuple[bytes, bytes | None]]: ...
    @property
    def outcomes(self) -> list[tuple[Outcome, ...]]: ...
    @property
    def changes(self) -> tuple[Change, ...]: ...
    @property
    def first_revision(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def time_ms(self) -> int: ...
    @property
    def internal_errors(self) -> tuple[str, ...]: ...


ApplyEntry = Callable[[Reader, Header, list[Batch]], Applied]
"""The state machine, given as an argument (`statemachine.machine.apply`)."""


class AppliedOutOfOrderError(AssertionError):
    """The engine wants to apply an entry that does not follow the state. The node stops."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The outcomes of one batch."""

    run: int
    sequence: int
    outcomes: tuple[Outcome, ...]


class Applier:
    """Applies entries in order, each exactly once. `told` gets everything after it has become visible."""

    def __init__(
        self,
        state: State,
        journal: Journal,
        machine: ApplyEntry,
        clock: Clock,
        metrics: Metrics,
        told: Callable[[int, list[Decided], list[Notice]], None],
    ) -> None:
        self._state = state
        self._journal = journal
        self._machine = machine
        self._clock = clock
        self._metrics = metrics
        self._told = told
        self.members_changed = False

    def apply(self, first: int, last: int) -> int:
        """Apply the entries first..last; may stop early when it takes long. Returns the last one applied."""
        position = self._state.position
        if first != position.index + 1:
            raise AppliedOutOfOrderError(f"entry {first} does not follow the state at {position.index}")
        started_s = self._clock.monotonic_s()
        transaction = self._state.begin()
        decided: list[Decided] = []
        notices: list[Notice] = []
        try:
            for index in range(first, last + 1):
                command, entry_index, term = self._journal[index - self._journal.first_index]
                if entry_index != index:
                    raise AppliedOutOfOrderError(f"the log holds entry {entry_index} where {index} belongs")
                if command[:1] == NO_OP:
                    chain = next_chain(position.chain, index, [])
                    position = Position(index, term, chain, position.revision, position.time_ms)
                else:
                    if command[:1] == MEMBERSHIP:
                        self.members_changed = True
                    header, batches = decode_entry(command[1:])
                    applied = self._machine(transaction, header, batches)
                    transaction.write(applied.writes)
                    chain = next_chain(position.chain, index, applied.writes)
                    position = Position(index, term, chain, applied.revision, applied.time_ms)
                    notices.append(_notice(position, applied))
                    decided.extend(map(_decided, batches, applied.outcomes))
                if self._clock.monotonic_s() - started_s > _SLICE_S:
                    break
        except BaseException:
            transaction.abort()
            raise
        transaction.commit(position)
        self._metrics.proposals_applied += len(decided)
        if self._metrics.on_commit is not None:
            self._metrics.on_commit(self._clock.monotonic_s() - started_s)
        self._told(position.term, decided, notices)
        return position.index


def _decided(batch: Batch, outcomes: tuple[Outcome, ...]) -> Decided:
    return Decided(batch.proposer_run, batch.sequence, outcomes)


def _notice(position: Position, applied: Applied) -> Notice:
    return Notice(
        position.index,
        position.term,
        applied.first_revision,
        applied.revision,
        applied.time_ms,
        applied.changes,
        internal_errors=applied.internal_errors,
    )
