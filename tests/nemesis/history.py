"""What the clients did and were told, as it is kept: one line of JSON for each call, reply and fault."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

OK = "ok"
REFUSED = "refused"
"""Decided: the state did not allow it."""
FAILED = "failed"
"""It did not happen; nothing was decided."""
UNKNOWN = "unknown"


class Op(msgspec.Struct, kw_only=True):
    """One operation of one client, all its attempts together.

    `value` is what the answer showed. `revision`: of a write its own, 0 if the answer did not show that one; of a read
    the one it reflects. `return_s` is when the last attempt ended. `nodes`: who was asked, the last one last. `over`:
    of an unknown outcome, that it happened before it returned, if it happened.
    """

    client: str
    kind: str
    key: str
    args: dict[str, Any]
    invoke_s: float
    return_s: float
    outcome: str
    nodes: list[str]
    code: str = ""
    value: dict[str, Any] = {}
    revision: int = 0
    over: bool = False


class Seen(msgspec.Struct):
    """The revision one reply of one node showed. `strong`: the reply to a linearizable read. `replayed`: the node gave
    the first answer again, which shows what that one did."""

    node: str
    run: str
    revision: int
    invoke_s: float
    return_s: float
    strong: bool
    replayed: bool = False
    ask: str = ""
    status: int = 0


class Page(msgspec.Struct):
    """What a follower of changes was given at once: (revision, ids of its changes), and where it goes on. `begin_s`:
    when it was asked for, or the stream was opened."""

    follower: str
    node: str
    from_revision: int
    next_revision: int
    messages: list[tuple[int, list[str]]]
    begin_s: float = 0.0
    end_s: float = 0.0


class Misspoken(msgspec.Struct):
    """A reply that no node should ever give."""

    node: str
    text: str
    begin_s: float
    end_s: float


class Doubt(msgspec.Struct):
    """A node ran on a state that a disk had damaged. `noticed_s`: when it was seen to have taken itself out of
    service."""

    node: str
    begin_s: float
    end_s: float
    noticed_s: float | None = None


class Fault(msgspec.Struct):
    """What the nemesis did, from when to when."""

    kind: str
    detail: str
    begin_s: float
    end_s: float


class History:
    """Everything of one run, in the order it was recorded. `defects` are wrong whatever else happened."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.seen: list[Seen] = []
        self.pages: list[Page] = []
        self.faults: list[Fault] = []
        self.misspoken: list[Misspoken] = []
        self.doubts: list[Doubt] = []
        self.defects: list[str] = []
        self.write_acknowledged_s: list[float] = []
        self._began_s = time.monotonic()

    def now_s(self) -> float:
        """Seconds since the run began; one clock for all clients."""
        return time.monotonic() - self._began_s

    def add(self, op: Op, *, is_write: bool) -> None:
        """Record a finished operation."""
        self.ops.append(op)
        if is_write and op.outcome == OK:
            self.write_acknowledged_s.append(op.return_s)

    def save(self, directory: Path) -> None:
        """Write everything, one record a line."""
        directory.mkdir(parents=True, exist_ok=True)
        parts: dict[str, list[Any]] = {
            "ops": self.ops, "seen": self.seen, "pages": self.pages, "faults": self.faults, "defects": self.defects,
            "misspoken": self.misspoken, "doubts": self.doubts,
        }  # fmt: skip
        for name, records in parts.items():
            (directory / f"{name}.jsonl").write_bytes(b"".join([msgspec.json.encode(one) + b"\n" for one in records]))
