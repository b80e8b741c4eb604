"""Drives the state machine frame by frame: keys, fences, flags and entries as a test wants them."""

from __future__ import annotations

import msgspec

from statemachine import commands, machine
from statemachine.commands import Command
from statemachine.entry import FLAG_CREATE_PROJECT, Batch, Fence, Frame, Header, Idempotency
from statemachine.machine import Applied
from statemachine.outcome import Item, Outcome, Refusal
from statemachine.store import MemoryStore

START_MS = 1_700_000_000_000


def key(text: str, *, digest: str = "same", uuid7_ms: int = 0, ttl_ms: int = 24 * 3_600_000) -> Idempotency:
    """An Idempotency-Key; `digest` stands for the request it came with."""
    return Idempotency(text.encode().ljust(16, b"."), digest.encode().ljust(16, b"."), uuid7_ms, ttl_ms)


def frame(
    command: Command,
    *,
    project: str = "default",
    idempotency: Idempotency | None = None,
    fence: Fence | None = None,
    flags: int = FLAG_CREATE_PROJECT,
) -> Frame:
    """One command as the edge would frame it."""
    number = commands.NUMBERS[type(command)]
    payload = msgspec.Raw(commands.encode(command))
    return Frame(number, commands.VERSION, project, "user:ann", "req-1", idempotency, fence, 0, flags, payload)


class Driver:
    """A state in memory and a clock that only the test moves."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.time_ms = START_MS
        self.entries: list[tuple[Header, list[Batch]]] = []
        self.entry()

    def entry(self, *frames: Frame) -> Applied:
        """Apply one entry with these commands."""
        header, batches = Header(self.time_ms, 1), [Batch(7, len(self.entries), frames)]
        self.entries.append((header, batches))
        applied = machine.apply(self.store, header, batches)
        self.store.apply(applied.writes)
        return applied

    def outcome(self, one: Frame) -> Outcome:
        """Apply one frame in an entry of its own."""
        return self.entry(one).outcomes[0][0]

    def do(self, command: Command, project: str = "default") -> Item:
        """Apply a command that must be accepted -> its only item."""
        outcome = self.outcome(frame(command, project=project))
        assert outcome.refusal is None, outcome.refusal
        (item,) = outcome.items
        return item

    def refused(self, command: Command, project: str = "default") -> Refusal:
        """Apply a command that must be refused, and must change nothing."""
        before = dict(self.store.scan(b"\x00", b"\xff"))
        outcome = self.outcome(frame(command, project=project))
        assert outcome.refusal is not None, outcome
        after = dict(self.store.scan(b"\x00", b"\xff"))
        assert {k: v for k, v in before.items() if k != b"M"} == {k: v for k, v in after.items() if k != b"M"}
        return outcome.refusal

    @property
    def revision(self) -> int:
        """The state's revision."""
        return machine.read_meta(self.store).revision
