"""Locks on paths, shared or exclusive, held by tasks: granted with the task or not at all, and let go with it.

A task holds its locks from its grant until it lets go of all: while it occupies a slot, while it waits, and after that
until it is started again. It asks for all of them at once and never for more, so no two tasks can wait for each other:
there is no deadlock to detect.

Table l has a row for each held lock, under the directory that its pattern begins with. So what may overlap a pattern is
found in two places: under the directories above its own, one short scan each, and below its own. Rows of tasks have the
scope "": the project itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from statemachine import globs, limits, task_record
from statemachine.commands import PathLock
from statemachine.hindrance import HOLDERS_NAMED_MAX, Hindrance
from statemachine.keys import end_of, from_u64, name, u32, u64
from statemachine.store import Reader
from statemachine.task_record import Task
from statemachine.task_states import ENDED

TASK = b"\x01"
"""The kind of holder in a row's key: tasks."""

CODE = "lock_held"
SHARED, EXCLUSIVE = b"\x00", b"\x01"
_DIRECTORY_BYTES_MAX = 120


class Conflict(NamedTuple):
    """A lock that somebody else holds, and that one of those asked for does not go with; `asked` is its position.

    `holder_no` 0: more held locks are in the way than are compared."""

    asked: int
    holder_no: int
    path: str
    exclusive: bool


class Meter:
    """How much was compared, in steps (`globs.steps`)."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = 0


class Puts(Protocol):
    """What rows are written to."""

    def get(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes) -> None: ...

    def delete(self, key: bytes) -> None: ...


# --- rows -------------------------------------------------------------------------------------------------------------


def holds(task: Task) -> bool:
    """Whether the task holds its locks now. `wait` stays from when a task is parked until it is started again."""
    return bool(task.holder_no) or (task.wait is not None and task.status not in ENDED)


def rows_of(task: Task) -> dict[bytes, bytes]:
    """The rows of the locks that a task holds."""
    return rows(task.project_no, task.number, task.locks) if holds(task) else {}


def rows(project_no: int, holder_no: int, locks: Sequence[PathLock], rank: bytes = b"") -> dict[bytes, bytes]:
    """The rows of these locks under one holder. Of one directory they stand in the order of the holders' numbers, or
    (outside the state) of their ranks, all of one length, before that."""
    found: dict[bytes, bytes] = {}
    base = _base(project_no)
    for position, lock in enumerate(locks):
        key = base + _directory(lock.path) + b"\0" + TASK + rank + u64(holder_no) + bytes([position])
        found[key] = (EXCLUSIVE if lock.exclusive else SHARED) + lock.path.encode()
    return found


def _base(project_no: int) -> bytes:
    return b"l" + u32(project_no) + name("")


def count_key(project_no: int) -> bytes:
    """The row that counts a project's held locks."""
    return b"l" + u32(project_no)


@lru_cache(maxsize=16_384)
def _directory(path: str) -> bytes:
    """The literal segments that a pattern begins with, as many as a key has room for."""
    found = b""
    for segment in globs.parse(path).prefix:
        longer = found + b"/" + segment.encode() if found else segment.encode()
        if len(longer) > _DIRECTORY_BYTES_MAX:
            break
        found = longer
    return found


def held_count(reader: Reader, project_no: int) -> int:
    """How many locks are held in a project."""
    data = reader.get(count_key(project_no))
    return 0 if data is None else from_u64(data)


def recount(state: Puts, project_no: int, delta: int) -> None:
    """So many more locks (or less, below zero) are held in a project."""
    if not delta:
        return
    key = count_key(project_no)
    data = state.get(key)
    count = (0 if data is None else from_u64(data)) + delta
    if count < 0:
        raise AssertionError(f"project {project_no} would hold less than no lock")
    if count:
        state.put(key, u64(count))
    else:
        state.delete(key)


def holders(reader: Reader) -> Iterator[tuple[int, int]]:
    """(project number, task number) of every task that holds locks, once for each lock."""
    for key, _ in reader.scan(b"l", end_of(b"l")):
        if len(key) > len(count_key(0)):
            yield int.from_bytes(key[1:5], "big"), int.from_bytes(key[-9:-1], "big")


# --- who is in the way ------------------------------------------------------------------------------------------------


def conflicts(
    reader: Reader,
    project_no: int,
    holder_no: int,
    locks: Sequence[PathLock],
    *,
    newest_first: bool = False,
    before: bytes | None = None,
    named_max: int = HOLDERS_NAMED_MAX,
    meter: Meter | None = None,
) -> Iterator[Conflict]:
    """What others hold that these locks do not go with, up to `named_max` for each of them. No more than
    `LOCK_COMPARISONS_MAX` steps are made in all, which the `meter` counts.

    `newest_first`: of what lies under one directory. `before`: only holders of a lower rank and number, as in keys.
    """
    meter = meter or Meter()
    most = meter.steps + limits.LOCK_COMPARISONS_MAX
    for asked, lock in enumerate(locks):
        pattern, found = globs.parse(lock.path), 0
        for key, value in _candidates(reader, project_no, lock.path, before, newest_first=newest_first):
            if meter.steps >= most:
                yield Conflict(asked, 0, lock.path, lock.exclusive)
                return
            meter.steps += 1
            exclusive = value[:1] == EXCLUSIVE
            if not (exclusive or lock.exclusive):
                continue
            if before is not None and key[-1 - len(before) : -1] >= before:
                continue
            holder, path = int.from_bytes(key[-9:-1], "big"), value[1:].decode()
            if holder == holder_no:
                continue
            other = globs.parse(path)
            meter.steps += globs.steps(pattern, other) - 1
            if globs.overlap(pattern, other):
                yield Conflict(asked, holder, path, exclusive)
                found += 1
                if found == named_max:
                    break


def _candidates(
    reader: Reader, project_no: int, path: str, before: bytes | None, *, newest_first: bool
) -> Iterator[tuple[bytes, bytes]]:
    for start, end in _places(project_no, path, before):
        yield from reader.scan(start, end, reverse=newest_first)


def _places(project_no: int, path: str, before: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """The ranges of rows that may overlap a pattern: those below its directory, then those above, nearest first."""
    base, directory = _base(project_no), _directory(path)
    if not directory:
        yield base, end_of(base)
        return
    yield base + directory + b"/", base + directory + b"0"
    while True:
        prefix = base + directory + b"\0"
        yield prefix, end_of(prefix) if before is None else prefix + TASK + before
        if not directory:
            return
        directory = directory.rpartition(b"/")[0]


def hindrances(reader: Reader, task: Task) -> Iterator[Hindrance]:
    """What keeps the locks of a pending task from being granted: one for each lock that others are in the way of.

    A task that kept its locks has nobody in its way.
    """
    if holds(task):
        return
    held = held_count(reader, task.project_no)
    if held + len(task.locks) > limits.LOCKS_HELD_MAX:
        message = (
            f"{held} locks are held in the project, at most {limits.LOCKS_HELD_MAX} may be; "
            "wait for tasks to end, or lock directories instead of files"
        )
        yield Hindrance(CODE, message, {"path": task.locks[0].path, "held_by": [], "held": held})
        return
    found = conflicts(reader, task.project_no, task.number, task.locks)
    for asked, in_the_way in groupby(found, attrgetter("asked")):
        yield _hindrance(reader, task, task.locks[asked], list(in_the_way))


def _hindrance(reader: Reader, task: Task, lock: PathLock, in_the_way: list[Conflict]) -> Hindrance:
    held_by: list[dict[str, Any]] = []
    for conflict in in_the_way:
        if conflict.holder_no:
            holder = task_record.get(reader, task.project_no, conflict.holder_no)
            if holder is None:
                raise AssertionError(
                    f"task {conflict.holder_no} of project {task.project_no} holds locks and is not there"
                )
            one = {"task_id": holder.task_id, "path": conflict.path, "exclusive": conflict.exclusive}
            held_by.append({**one, "agent_id": holder.agent_id})
    data = {"path": lock.path, "exclusive": lock.exclusive, "held_by": held_by}
    mode = mode_of(lock.exclusive)
    if not held_by:
        message = f"{mode} lock on {lock.path!r}: too many locks are held to be compared with it; lock a narrower path"
        return Hindrance(CODE, message, data)
    first = held_by[0]
    # Who waits, or is to go on after that, is with nobody.
    who = "with no agent now" if first["agent_id"] is None else f"with agent {first['agent_id']}"
    message = (
        f"{mode} lock on {lock.path!r}: task {first['task_id']}, {who}, holds "
        f"{mode_of(first['exclusive'])} {first['path']!r}"
    )
    if len(held_by) > 1:
        message += f", and {len(held_by) - 1} more are in the way"
    return Hindrance(CODE, f"{message}; wait for it to end", data)


def mode_of(exclusive: bool) -> str:
    """The word for it."""
    return "exclusive" if exclusive else "shared"


def fault_of(locks: Sequence[PathLock]) -> tuple[str, str] | None:
    """What is wrong with locks as a task asks for them: (the field within the task, what is wrong), or None."""
    if len(locks) > limits.LOCKS_MAX:
        return "locks", f"must have at most {limits.LOCKS_MAX} items"
    for position, lock in enumerate(locks):
        try:
            globs.parse(lock.path)
        except ValueError as error:
            return f"locks[{position}].path", str(error)
    return None
