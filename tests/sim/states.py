"""The state of a simulated node: it outlives its process as the page cache does, and not its machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.memory_state import MemorySnapshots, MemoryState
from cluster.state import Position
from statemachine.store import MemoryStore


@dataclass(slots=True)
class Generation:
    """A state as the page cache holds it: it outlives the process, not the machine."""

    number: int
    position: Position
    store: MemoryStore


class SimState(MemoryState):
    """The state of one life, in numbered generations."""

    def __init__(self, snapshots: MemorySnapshots, on_commit: Callable[[Position, Position], None]) -> None:
        self.generation = 0
        super().__init__(snapshots)
        self.generation = 1
        self.previous: Generation | None = None
        self._on_commit = on_commit

    def adopt(self, kept: Generation) -> None:
        """Go on with a state that was kept."""
        self.generation, self.position, self.store = kept.number, kept.position, kept.store

    def install(self) -> None:
        """As `MemoryState`; the generation before is kept until node.json names the new one."""
        previous = Generation(self.generation, self.position, self.store)
        super().install()
        self.generation, self.previous = previous.number + 1, previous

    def committed(self, before: Position) -> None:
        """A transaction has become visible."""
        self._on_commit(before, self.position)

    def begin(self) -> Any:
        """As `MemoryState`, and tells of commits."""
        transaction, before = super().begin(), self.position
        inner = transaction.commit

        def commit(position: Position) -> None:
            inner(position)
            self.committed(before)

        return _Told(transaction, commit)


class _Told:
    """A transaction whose commit is heard of."""

    def __init__(self, transaction: Any, commit: Callable[[Position], None]) -> None:
        self.get, self.scan = transaction.get, transaction.scan
        self.write, self.abort = transaction.write, transaction.abort
        self.commit = commit
