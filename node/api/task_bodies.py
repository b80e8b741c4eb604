"""Tasks as requests bring them, and how they become commands."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from node.api import ids
from node.api.body import Anything, Body, OpenObject, absent, anything, open_object
from node.api.ids import Id
from node.api.problem import invalid
from node.api.query import Text
from node.api.times import TimeMs
from statemachine import limits, names, path_locks
from statemachine.commands import Backoff, NewTask, PathLock, Requirement

RATIO = 10_000
"""Inside, ratios are whole ten-thousandths."""

PRIORITY_WORDS = {"high": 8, "medium": 5, "low": 2}
FACTOR_MAX = 1_000

Title = Annotated[str, msgspec.Meta(max_length=limits.TITLE_BYTES_MAX)]
Description = Annotated[str, msgspec.Meta(max_length=limits.DESCRIPTION_BYTES_MAX)]
Message = Annotated[str, msgspec.Meta(max_length=limits.MESSAGE_BYTES_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ID_BYTES_MAX)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
PriorityNumber = Annotated[int, msgspec.Meta(ge=0, le=limits.PRIORITY_MAX)]
Priority = PriorityNumber | Literal["high", "medium", "low"]
DelayMs = Annotated[int, msgspec.Meta(ge=0, le=limits.DURATION_MS_MAX)]
DurationMs = Annotated[int, msgspec.Meta(ge=1, le=limits.DURATION_MS_MAX)]
LeaseMs = Annotated[int, msgspec.Meta(ge=limits.LEASE_MS_MIN, le=limits.LEASE_MS_MAX)]


class RequirementBody(Body):
    """A capability a task needs."""

    name: Text
    min_proficiency: Ratio = 0.0


class BackoffBody(Body):
    """The delay before the next attempt: initial, times factor each time, at most max, plus or minus jitter."""

    initial_ms: DelayMs = 1_000
    factor: Annotated[float, msgspec.Meta(ge=1, le=FACTOR_MAX)] = 2.0
    max_ms: DelayMs = 60_000
    jitter: Ratio = 0.2


class LockBody(Body):
    """A lock that is granted with the task: on the paths that `path` matches, relative to the root of a repository.
    `**` stands for any number of directories, `*` for any characters of a name, `?` for one, `[a-z]` and `[!a-z]` for
    one of a set."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=limits.LOCK_PATH_BYTES_MAX)]
    exclusive: bool = True


class TaskBody(Body):
    """`POST /api/tasks`; every field is optional."""

    task_id: Id | None = None
    queue: Id = "default"
    type: Text = "task"
    title: Title | None = None
    description: Description | None = None
    payload: Anything = absent()
    priority: Priority = limits.PRIORITY_DEFAULT
    requires: Annotated[list[RequirementBody], msgspec.Meta(max_length=limits.REQUIRES_MAX)] = []
    labels: OpenObject = absent()
    depends_on: Annotated[list[Id], msgspec.Meta(max_length=limits.DEPENDENCIES_MAX)] = []
    on_dependency_failure: Literal["block", "cancel", "run"] = "block"
    group_id: Id | None = None
    not_before: TimeMs | None = None
    delay_ms: DelayMs | None = None
    deadline: TimeMs | None = None
    deadline_in_ms: DurationMs | None = None
    expires_unstarted_ms: DurationMs | None = None
    run_timeout_ms: DurationMs | None = None
    lease_ms: LeaseMs = 60_000
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_ATTEMPTS_MAX)] = 3
    backoff: BackoffBody | None = None
    unique_key: Name | None = None
    concurrency_key: Name | None = None
    locks: Annotated[list[LockBody], msgspec.Meta(max_length=limits.LOCKS_MAX)] = []
    session_id: Id | None = None
    metadata: OpenObject = absent()


class TaskBatch(Body):
    """`POST /api/tasks/batch`."""

    items: list[TaskBody]
    atomic: bool = False


class TaskPatch(Body):
    """`PATCH /api/tasks/{id}`, a merge patch: null removes, what is absent stays."""

    priority: Priority | msgspec.UnsetType = msgspec.UNSET
    labels: OpenObject = absent()
    metadata: OpenObject = absent()
    deadline: TimeMs | msgspec.UnsetType | None = msgspec.UNSET
    not_before: TimeMs | msgspec.UnsetType | None = msgspec.UNSET
    queue: Id | msgspec.UnsetType = msgspec.UNSET
    if_revision: Annotated[int, msgspec.Meta(ge=0)] | None = None


class AssignBody(Body):
    """`PUT /api/tasks/{id}/assign`."""

    agent_id: Id


_DEFAULT_BACKOFF = Backoff()
_labels = msgspec.json.Decoder(dict[str, msgspec.Raw])


def priority_number(priority: int | str) -> int:
    """The number of a priority that may be a word."""
    return priority if isinstance(priority, int) else PRIORITY_WORDS[priority]


def ten_thousandths(ratio: float) -> int:
    """A ratio as commands carry it."""
    return round(ratio * RATIO)


def new_task(body: TaskBody, path: str) -> NewTask:
    """The task as submitted; `path` leads to it in the request, and ends in a dot or is empty. Raises Problem."""
    if body.task_id is None:
        task_id = ids.new_id()
    elif body.task_id in names.VERBS:
        task_id = ids.check(f"{path}task_id", body.task_id)
    else:
        task_id = body.task_id
    if task_id in body.depends_on:
        raise invalid(f"{path}depends_on[{body.depends_on.index(task_id)}]", "a task cannot depend on itself: a cycle")
    if body.delay_ms is not None and body.not_before is not None:
        raise invalid(f"{path}delay_ms", "give it or not_before, not both")
    if body.deadline_in_ms is not None and body.deadline is not None:
        raise invalid(f"{path}deadline_in_ms", "give it or deadline, not both")
    if body.unique_key is not None:
        _check_key(f"{path}unique_key", body.unique_key)
    return NewTask(
        task_id,
        body.queue,
        body.type,
        body.title,
        body.description,
        anything(body.payload, f"{path}payload", "payload_bytes_max", limits.PAYLOAD_BYTES_MAX),
        priority_number(body.priority),
        tuple(Requirement(need.name, ten_thousandths(need.min_proficiency)) for need in body.requires),
        labels_of(body.labels, f"{path}labels"),
        tuple(body.depends_on),
        body.on_dependency_failure,
        body.group_id,
        body.not_before,
        body.delay_ms,
        body.deadline,
        body.deadline_in_ms,
        body.expires_unstarted_ms,
        body.run_timeout_ms,
        body.lease_ms,
        body.max_attempts,
        _DEFAULT_BACKOFF if body.backoff is None else _backoff(body.backoff),
        body.unique_key,
        body.concurrency_key,
        body.session_id,
        open_object(body.metadata, f"{path}metadata", "metadata_bytes_max", limits.METADATA_BYTES_MAX),
        _locks(body.locks, path) if body.locks else (),
    )


def _locks(body: list[LockBody], path: str) -> tuple[PathLock, ...]:
    locks = tuple(PathLock(lock.path, lock.exclusive) for lock in body)
    fault = path_locks.fault_of(locks)
    if fault is not None:
        raise invalid(path + fault[0], fault[1])
    return locks


def _backoff(body: BackoffBody) -> Backoff:
    return Backoff(body.initial_ms, ten_thousandths(body.factor), body.max_ms, ten_thousandths(body.jitter))


def _check_key(path: str, key: str) -> None:
    if len(key.encode()) > limits.ID_BYTES_MAX:
        raise invalid(path, f"must be at most {limits.ID_BYTES_MAX} bytes")
    if "\0" in key:
        raise invalid(path, "must not hold a zero character")


def labels_of(raw: msgspec.Raw, path: str) -> bytes | None:
    """Labels: an object with up to 64 members of at most 256 bytes each, names and values."""
    data = open_object(raw, path, "metadata_bytes_max", limits.METADATA_BYTES_MAX)
    if data is None:
        return None
    check_labels(data, path)
    return data


def check_labels(data: bytes, path: str) -> None:
    """Refuse labels beyond their limits."""
    labels = _labels.decode(data)
    if len(labels) > limits.LABELS_MAX:
        raise invalid(path, f"must have at most {limits.LABELS_MAX} members")
    for name, value in labels.items():
        if len(name.encode()) > limits.LABEL_BYTES_MAX or len(bytes(value)) > limits.LABEL_BYTES_MAX:
            raise invalid(f"{path}.{name[:64]}", f"name and value must be at most {limits.LABEL_BYTES_MAX} bytes each")
