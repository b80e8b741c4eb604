"""The key space. The first byte is the table; TABLES is the register, and a test keeps it complete.

Numbers are big endian, so that bytewise order is numeric order. Names (ids, queue names) end in a zero byte,
which no valid name holds, so that no name is a prefix of another. Projects are interned: four bytes each.
"""

from __future__ import annotations

import struct

TABLES: dict[bytes, str] = {
    b"M": "meta: one record (Meta)",
    b"m": "members of the cluster: node id -> Member, also of those that were removed",
    b"S": "settings: one record (Settings)",
    b"P": "projects: number -> Project",
    b"p": "projects: name -> number",
    b"n": "counters: project number -> counts by name",
    b"I": "idempotency: project, key hash -> IdempotencyRecord",
    b"x": "idempotency by expiry: project, class, expires_ms, key hash -> nothing",
    b"C": "change feed: last revision of an entry -> ChangeGroup",
    b"w": "work rows: number -> what a command left to be done",
    b"J": "sessions: project, created order -> Session",
    b"j": "sessions: project, session id -> created order, or last seq and time of removal of a former session",
    b"F": "former sessions: removed_ms, project, session id -> nothing",
    b"e": "sessions to expire: expires_ms, project, created order -> nothing",
    b"E": "events: project, session order, seq -> Event",
    b"T": "tasks: project, task number -> Task",
    b"t": "tasks: project, task id -> task number, or last attempt and time of removal of a former task",
    b"f": "former tasks: removed_ms, project, task id -> nothing",
    b"B": "large task bodies: project, task number, part -> bytes",
    b"Q": "pending tasks: project, queue, 9 - priority, task number -> nothing, or 1 for one of a session",
    b"q": "queues: project, queue -> Queue",
    b"k": "pending tasks with a concurrency key: project, key hash, queue, 9 - priority, task number -> nothing",
    b"c": "held tasks with a concurrency key: project, key hash, task number -> nothing",
    b"r": "pending tasks of a session: project, queue, session hash, 9 - priority, task number -> nothing",
    b"D": "scheduled tasks: due_ms, project, task number -> nothing",
    b"K": "task timers: time_ms, kind, project, task number -> nothing",
    b"d": "dependents: project, task number of the dependency, task number of the dependent -> satisfied",
    b"G": "groups: project, group id, task number -> nothing",
    b"g": "group counts: project, group id -> Group",
    b"b": "budgets: project (0 for agents), scope, id -> Budget",
    b"l": "held locks: project, scope, directory, kind of holder, number, position -> mode, pattern; project -> count",
    b"U": "unique keys: project, unique key -> task number",
    b"A": "agents: agent number -> Agent",
    b"a": "agents: agent id -> agent number",
    b"L": "agent loads: agent number -> Load",
    b"W": "tasks set aside: project, why (1 waiting, 2 failed), task number -> nothing",
    b"Z": "ended tasks: completed_ms, project, task number -> nothing",
    b"z": "ended sessions: updated_ms, project, created order -> nothing",
    b"Y": "schedules: project, created order -> Schedule",
    b"i": "schedules: project, schedule id -> created order",
    b"V": "definitions of schedules: project, created order -> Definition",
    b"v": "schedules by next run: next_run_ms, project, created order -> nothing",
    b"H": "held tasks: agent number, project, task number -> attempt",
}

_u32 = struct.Struct(">I").pack
_u64 = struct.Struct(">Q").pack


def u32(number: int) -> bytes:
    """Four bytes."""
    return _u32(number)


def u64(number: int) -> bytes:
    """Eight bytes."""
    return _u64(number)


def from_u64(data: bytes) -> int:
    """The number in eight bytes."""
    return int.from_bytes(data, "big")


def name(text: str) -> bytes:
    """A name inside a key, with its terminator. Callers have checked length and alphabet
    (`names.check_id`)."""
    return text.encode() + b"\0"


def end_of(prefix: bytes) -> bytes:
    """The first key after all keys that begin with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])


def behind(prefix: bytes, after: int | None, *, ascending: bool) -> tuple[bytes, bytes]:
    """The range of the keys `prefix` and eight bytes that a list goes on with when it has shown number `after`: those
    above it, or when it descends those below; all of them for None."""
    if after is None:
        return prefix, end_of(prefix)
    return (prefix + u64(after + 1), end_of(prefix)) if ascending else (prefix, prefix + u64(after))


META = b"M"


def order_number(created_revision: int, position: int) -> int:
    """The place of a resource in creation order: unique, and sequential, so that new keys go to the end of
    the tree.

    `position` is the index within an atomic batch (0 to 1023); revisions up to 2^53 fit.
    """
    return created_revision << 10 | position
