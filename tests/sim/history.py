"""What the cluster decided: the one log that all nodes must agree on, and what its replay from nothing gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from cluster.engine import NO_OP
from cluster.state import next_chain
from statemachine import machine
from statemachine.audit import audit
from statemachine.changes import Change
from statemachine.entry import Batch, decode_entry
from statemachine.outcome import Outcome
from statemachine.store import MemoryStore
from tests.sim.abuse import POISON
from tests.sim.queue_rules import QueueRules
from tests.sim.resource_rules import ResourceRules

_AUDIT_EVERY = 40
"""Entries; to recount everything costs as much as to apply some dozens."""

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay: the state's content, the digest chain at each index, each request's outcome, and how often
    something was done that the rules are about."""

    content: dict[bytes, bytes]
    chains: dict[int, bytes]
    outcomes: dict[str, Outcome]
    faults: list[str]
    changes: dict[int, list[bytes]]
    figures: dict[str, int]


def group_by_revision(changes: Iterable[Change], into: dict[int, list[bytes]]) -> dict[int, list[bytes]]:
    """Changes, encoded so that they compare, by their revision."""
    for change in changes:
        into.setdefault(change.revision, []).append(_encode(change))
    return into


def _defects(index: int, batches: Sequence[Batch], errors: Sequence[str]) -> Iterator[str]:
    """Poison meets a defect, each command of it once; nothing else does."""
    poison = sum(frame.request_id.startswith(POISON) for batch in batches for frame in batch.frames)
    if len(errors) != poison:
        yield f"entry {index}: {poison} commands of poison, and {len(errors)} defects: {'; '.join(errors)}"


class History:
    """Entries in the order in which they were first applied anywhere. Index 1 is the log's own beginning."""

    def __init__(self) -> None:
        self.entries: dict[int, tuple[int, bytes]] = {}
        self.last_index = 1
        self.index_of: dict[str, int] = {}
        self.time_ms = 0
        self._batches: dict[tuple[int, int], int] = {}

    def add(self, index: int, term: int, command: bytes) -> list[str]:
        """A node applies this; returns what is wrong with that."""
        known = self.entries.get(index)
        if known is not None:
            if known != (term, command):
                return [f"entry {index} of term {term} is applied, and was applied as another of term {known[0]}"]
            return []
        faults = []
        if index != self.last_index + 1:
            faults.append(f"entry {index} is applied before entry {self.last_index + 1} was applied anywhere")
        self.entries[index] = (term, command)
        self.last_index = index
        if command[:1] == NO_OP:
            return faults
        header, batches = decode_entry(command[1:])
        if header.time_ms < self.time_ms:
            faults.append(f"entry {index} has a time {self.time_ms - header.time_ms} ms before the entry before it")
        if header.term != term:
            faults.append(f"entry {index} of term {term} was stamped for term {header.term}")
        self.time_ms = max(self.time_ms, header.time_ms)
        for batch in batches:
            identity = (batch.proposer_run, batch.sequence)
            if identity in self._batches:
                faults.append(f"batch {identity} is in entry {index}, and in entry {self._batches[identity]} before")
            self._batches[identity] = index
            for frame in batch.frames:
                # What a leader decides itself carries no request id.
                if frame.request_id in self.index_of:
                    before = self.index_of[frame.request_id]
                    faults.append(f"request {frame.request_id} is in entry {index}, and in entry {before} before")
                if frame.request_id:
                    self.index_of[frame.request_id] = index
        return faults

    def replay(self) -> Replayed:
        """Apply everything to an empty state, one entry at a time."""
        store, chain = MemoryStore(), b""
        replayed = Replayed({}, {}, {}, [], {}, {})
        rules, resources = QueueRules(), ResourceRules()
        for index in range(2, self.last_index + 1):
            _, command = self.entries[index]
            writes: list[tuple[bytes, bytes | None]] = []
            if command[:1] != NO_OP:
                header, batches = decode_entry(command[1:])
                applied = machine.apply(store, header, batches)
                writes = applied.writes
                store.apply(writes)
                replayed.faults.extend(_defects(index, batches, applied.internal_errors))
                replayed.faults.extend(rules.follow(batches, applied.outcomes, applied.changes))
                replayed.faults.extend(resources.follow(batches, applied.outcomes, applied.changes, store))
                group_by_revision(applied.changes, replayed.changes)
                for batch, outcomes in zip(batches, applied.outcomes, strict=True):
                    for frame, outcome in zip(batch.frames, outcomes, strict=True):
                        replayed.outcomes[frame.request_id] = outcome
            chain = next_chain(chain, index, writes)
            replayed.chains[index] = chain
            if index % _AUDIT_EVERY == 0:
                replayed.faults.extend(f"after entry {index}: {fault}" for fault in audit(store))
        replayed.content.update(store.scan(b"\x00", b"\xff"))
        replayed.faults.extend(audit(store))
        replayed.faults.extend(rules.at_the_end())
        replayed.figures.update(
            grants=resources.granted, grants_with_locks=resources.granted_with_locks, budgets_used_up=resources.used_up
        )
        return replayed
