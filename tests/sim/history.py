"""What the cluster decided: the one log that all nodes must agree on, and what its replay from nothing gives."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.engine import NO_OP
from cluster.state import next_chain
from statemachine import machine
from statemachine.audit import audit
from statemachine.entry import decode_entry
from statemachine.outcome import Outcome
from statemachine.store import MemoryStore


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay: the state's content, the digest chain at each index, and each request's outcome."""

    content: dict[bytes, bytes]
    chains: dict[int, bytes]
    outcomes: dict[str, Outcome]
    faults: list[str]


class History:
    """Entries in the order in which they were first applied anywhere. Index 1 is the log's own beginning."""

    def __init__(self) -> None:
        self.entries: dict[int, tuple[int, bytes]] = {}
        self.last_index = 1
        self.index_of: dict[str, int] = {}
        self.time_ms = 0

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
            for frame in batch.frames:
                if frame.request_id in self.index_of:
                    before = self.index_of[frame.request_id]
                    faults.append(f"request {frame.request_id} is in entry {index}, and in entry {before} before")
                self.index_of[frame.request_id] = index
        return faults

    def replay(self) -> Replayed:
        """Apply everything to an empty state, one entry at a time."""
        store, chain = MemoryStore(), b""
        replayed = Replayed({}, {}, {}, [])
        for index in range(2, self.last_index + 1):
            _, command = self.entries[index]
            writes: list[tuple[bytes, bytes | None]] = []
            if command[:1] != NO_OP:
                header, batches = decode_entry(command[1:])
                applied = machine.apply(store, header, batches)
                writes = applied.writes
                store.apply(writes)
                replayed.faults.extend(f"entry {index}: {error}" for error in applied.internal_errors)
                for batch, outcomes in zip(batches, applied.outcomes, strict=True):
                    for frame, outcome in zip(batch.frames, outcomes, strict=True):
                        replayed.outcomes[frame.request_id] = outcome
            chain = next_chain(chain, index, writes)
            replayed.chains[index] = chain
        replayed.content.update(store.scan(b"\x00", b"\xff"))
        replayed.faults.extend(audit(store))
        return replayed
