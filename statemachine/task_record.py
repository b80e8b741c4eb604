"""The record of a task, and where its large bodies live.

Everything but large bodies is one record, so that a change of state is one write. A body over
`limits.TASK_BODY_INLINE_BYTES_MAX` has a row of its own in table B, written once; the record keeps a
bit for it.
"""

from __future__ import annotations

import struct

import msgspec

from statemachine import limits
from statemachine.commands import Backoff, Json, PathLock, Requirement
from statemachine.store import Overlay, Reader
from statemachine.task_states import TaskState


class Transition(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One line of a task's history. `from_state` and `to_state` are equal when only the holder's slot
    was freed."""

    at: int
    from_state: TaskState
    to_state: TaskState
    attempt: int
    agent_id: str | None
    reason: str | None


class LastFailure(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Why the last attempt failed, or the task ended without one (`dependency_failed`, `never_started`)."""

    reason: str
    message: str
    attempt: int
    at: int


class Win(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A verb that ended an attempt: repeating it is answered with 200 and this revision."""

    attempt: int
    verb: str
    agent_id: str
    revision: int


class Wait(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a task waits for, or came back from and was not started since. `until` is when the wait ends by itself,
    `agent_id` who parked it at `attempt`."""

    kind: str
    name: str
    prompt: str | None
    options: Json | None
    assignee: str | None
    since: int
    until: int | None
    on_timeout: str
    attempt: int
    agent_id: str


class Reservation(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a budget has set aside for a held task; `cost` in micro-dollars. Another budget of the same name was created
    at another revision."""

    scope: str
    id: str
    created_revision: int
    tokens: int
    cost: int


class Task(msgspec.Struct, array_like=True, gc=False):
    """A task. Times are Unix milliseconds; fields as in API.md section 4 unless said here.

    `agent_id` is the holder, or after the end who held it last. `holder_no` is the number of the agent
    whose slot it occupies, 0 for none. `grant_ms` is the offer's or lease's duration as granted.
    `due_at` is when a `scheduled` task wakes. `unmet` counts dependencies a `blocked` task waits for.
    `bodies` has a bit for each of `BODIES` that lives in table B: the field is then empty here
    (`with_bodies` fills it). `fraction` is in ten-thousandths, money in micro-dollars. `resumes` are the answers to
    its waits (`task_resumes`), `reserved` what budgets keep for it while it is held.
    """

    project_no: int
    number: int
    project: str
    task_id: str
    digest: bytes
    status: TaskState
    created_at: int
    created_revision: int
    updated_at: int
    revision: int
    queue: str
    type: str
    title: str | None
    description: str | None
    payload: Json | None
    priority: int
    requires: tuple[Requirement, ...]
    labels: Json | None
    depends_on: tuple[str, ...]
    on_dependency_failure: str
    group_id: str | None
    not_before: int | None
    deadline: int | None
    expires_unstarted_ms: int | None
    run_timeout_ms: int | None
    lease_ms: int
    max_attempts: int
    backoff: Backoff
    unique_key: str | None
    concurrency_key: str | None
    session_id: str | None
    metadata: Json | None
    attempt: int = 0
    tries: int = 0
    agent_id: str | None = None
    holder_no: int = 0
    agent_epoch: int = 0
    granted_at: int | None = None
    grant_ms: int = 0
    started_at: int | None = None
    completed_at: int | None = None
    due_at: int | None = None
    unmet: int = 0
    bodies: int = 0
    fraction: int | None = None
    progress_message: str | None = None
    checkpoint: Json | None = None
    result: Json | None = None
    artifacts: Json | None = None
    failure: LastFailure | None = None
    usage: tuple[int, int, int] = (0, 0, 0)
    history: tuple[Transition, ...] = ()
    wins: tuple[Win, ...] = ()
    avoid_agent_id: str | None = None
    wait: Wait | None = None
    resumes: bytes | None = None
    reserved: tuple[Reservation, ...] = ()
    locks: tuple[PathLock, ...] = ()


BODIES = ("payload", "result", "checkpoint", "description", "metadata", "artifacts", "depends_on", "resumes")
"""Fields that may live in table B. The position is the part number: only ever add at the end."""

_PARTS = {field: part for part, field in enumerate(BODIES)}

ASIDE = {TaskState.WAITING: 1, TaskState.FAILED: 2}
"""States that people look for among millions of other tasks: each has an index of its own in table W."""

_FILLED = -1
"""`bodies` of a copy with everything in it: such a copy must never be written."""

_key = struct.Struct(">cIQ").pack
_aside_key = struct.Struct(">cIBQ").pack
_ended_key = struct.Struct(">cQIQ").pack
_body_key = struct.Struct(">cIQB").pack
_encoder = msgspec.msgpack.Encoder()
_decode = msgspec.msgpack.Decoder(Task).decode
_ids_decoder = msgspec.msgpack.Decoder(tuple[str, ...])


def key(project_no: int, number: int) -> bytes:
    """The key of a task's record."""
    return _key(b"T", project_no, number)


def id_key(project_no: int, task_id: str) -> bytes:
    """The key of the row that maps an id to a number."""
    return b"t" + project_no.to_bytes(4, "big") + task_id.encode() + b"\0"


def aside_key(project_no: int, why: int, number: int) -> bytes:
    """The key of the row of a task that waits or has failed (`ASIDE`)."""
    return _aside_key(b"W", project_no, why, number)


def ended_key(at: int, project_no: int, number: int) -> bytes:
    """The key of the row of a task that ended at that time."""
    return _ended_key(b"Z", at, project_no, number)


def encode(task: Task) -> bytes:
    """The record's bytes."""
    if task.bodies == _FILLED:
        raise AssertionError("a copy made for readers must not be written")
    return _encoder.encode(task)


def decode(data: bytes) -> Task:
    """The record of these bytes: a fresh copy that its reader may change."""
    return _decode(data)


def number_of(reader: Reader, project_no: int, task_id: str) -> int | None:
    """The number of the task with that id."""
    if not is_name(task_id):
        return None
    data = reader.get(id_key(project_no, task_id))
    return int.from_bytes(data, "big") if data is not None and len(data) == 8 else None


def get(reader: Reader, project_no: int, number: int) -> Task | None:
    """The task of that number, its large bodies left where they are."""
    data = reader.get(_key(b"T", project_no, number))
    return None if data is None else _decode(data)


def find(reader: Reader, project_no: int, task_id: str) -> Task | None:
    """The task of that id, its large bodies left where they are."""
    if not is_name(task_id):
        return None
    number = reader.get(id_key(project_no, task_id))
    if number is None or len(number) != 8:
        return None
    data = reader.get(b"T" + project_no.to_bytes(4, "big") + number)
    return None if data is None else _decode(data)


def is_name(text: str) -> bool:
    """Whether a text may stand in a key. The edge says more precisely what is wrong with one that may not."""
    size = len(text) if text.isascii() else len(text.encode())
    return 0 < size <= limits.ID_BYTES_MAX and "\0" not in text


def set_body(state: Overlay, task: Task, field: str, value: Json | str | tuple[str, ...] | None) -> None:
    """Give one of `BODIES` a new value, in the record or in its own row."""
    part = _PARTS[field]
    bit = 1 << part
    data = value if type(value) is Json else _body_bytes(value)
    if len(data) > limits.TASK_BODY_INLINE_BYTES_MAX:
        state.put(_body_key(b"B", task.project_no, task.number, part), data)
        task.bodies |= bit
        setattr(task, field, () if field == "depends_on" else None)
        return
    if task.bodies & bit:
        state.delete(_body_key(b"B", task.project_no, task.number, part))
        task.bodies &= ~bit
    setattr(task, field, value)


def delete_bodies(state: Overlay, task: Task) -> None:
    """Remove what lies in rows of its own: with the task."""
    for part in range(len(BODIES)):
        if task.bodies >> part & 1:
            state.delete(_body_key(b"B", task.project_no, task.number, part))


def with_bodies(reader: Reader, task: Task) -> Task:
    """The task with everything in it: a copy for readers that cannot be written."""
    whole = msgspec.structs.replace(task, bodies=_FILLED)
    for part, field in enumerate(BODIES):
        if task.bodies >> part & 1:
            setattr(whole, field, body(reader, task, field))
    return whole


def body(reader: Reader, task: Task, field: str) -> Json | str | tuple[str, ...] | None:
    """The value of one of `BODIES`, wherever it lives."""
    part = _PARTS[field]
    if task.bodies == _FILLED or not task.bodies >> part & 1:
        value: Json | str | tuple[str, ...] | None = getattr(task, field)
        return value
    data = reader.get(_body_key(b"B", task.project_no, task.number, part))
    if data is None:
        raise AssertionError(f"task {task.task_id}: the row of its {field} is missing")
    if field == "description":
        return data.decode()
    if field == "depends_on":
        return _ids_decoder.decode(data)
    return data


def json_body(reader: Reader, task: Task, field: str) -> Json | None:
    """The value of one of `BODIES` that holds user JSON."""
    value = body(reader, task, field)
    if value is not None and not isinstance(value, bytes):
        raise AssertionError(f"{field} holds no user JSON")
    return value


def depends_on(reader: Reader, task: Task) -> tuple[str, ...]:
    """The ids a task depends on, wherever they live."""
    value = body(reader, task, "depends_on")
    return value if isinstance(value, tuple) else ()


def _body_bytes(value: Json | str | tuple[str, ...] | None) -> bytes:
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, tuple):
        return _encoder.encode(value)
    return value
