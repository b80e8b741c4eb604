"""Tasks as the API shows them."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster.replica import View
from node.api.live import LiveTasks
from node.api.problem import Problem
from node.api.reply import NULL, raw
from node.api.request import Request
from node.api.task_bodies import RATIO
from node.api.times import text, text_or_none
from node.api.usage import Usage, dollars
from statemachine import task_queries, task_record, task_resumes
from statemachine.commands import PathLock
from statemachine.limits import REPLY_BYTES_MAX
from statemachine.outcome import Item, record_of
from statemachine.task_record import Task
from statemachine.task_states import TaskState

_EMPTY_OBJECT = msgspec.Raw(b"{}")
_EMPTY_LIST = msgspec.Raw(b"[]")


class RequirementView(msgspec.Struct):
    """A capability a task needs; `min_proficiency` 0 to 1."""

    name: str
    min_proficiency: float


class BackoffView(msgspec.Struct):
    """How long a task waits before its next attempt."""

    initial_ms: int
    factor: float
    max_ms: int
    jitter: float


class LockView(msgspec.Struct):
    """A lock that a task holds from its grant on."""

    path: str
    exclusive: bool


class ProgressView(msgspec.Struct):
    """How far an attempt is; `fraction` 0 to 1."""

    fraction: float | None
    message: str | None
    checkpoint: msgspec.Raw


class FailureView(msgspec.Struct):
    """Why the last attempt failed, or the task ended without one."""

    reason: str
    message: str
    attempt: int
    at: str


class TransitionView(msgspec.Struct, rename={"from_status": "from"}):
    """One line of a task's history."""

    at: str
    from_status: TaskState
    to: TaskState
    attempt: int
    agent_id: str | None
    reason: str | None


class WaitingView(msgspec.Struct):
    """What a task waits for, who parked it, and what happens at `timeout_at`."""

    kind: str
    name: str
    prompt: str | None
    options: msgspec.Raw
    assignee: str | None
    since: str
    timeout_at: str | None
    on_timeout: str
    attempt: int
    agent_id: str


class ResumeView(msgspec.Struct):
    """The answer to a wait; `timed_out`: its time was over, nobody gave one."""

    kind: str
    name: str
    data: msgspec.Raw
    actor: str | None
    at: str
    timed_out: bool


class TaskLiveView(msgspec.Struct):
    """What only the leader knows of a held task."""

    as_of: str
    attempt: int
    lease_remaining_ms: int | None
    fraction: float | None
    message: str | None


class TaskView(msgspec.Struct, kw_only=True):
    """A task."""

    task_id: str
    project: str
    queue: str
    type: str
    status: TaskState
    title: str | None
    description: str | None
    payload: msgspec.Raw
    priority: int
    requires: list[RequirementView]
    labels: msgspec.Raw
    depends_on: tuple[str, ...]
    on_dependency_failure: str
    group_id: str | None
    not_before: str | None
    deadline: str | None
    expires_unstarted_ms: int | None
    run_timeout_ms: int | None
    lease_ms: int
    max_attempts: int
    backoff: BackoffView
    unique_key: str | None
    concurrency_key: str | None
    locks: list[LockView] = []
    session_id: str | None
    metadata: msgspec.Raw
    attempt: int
    tries: int
    agent_id: str | None
    progress: ProgressView
    result: msgspec.Raw
    artifacts: msgspec.Raw
    failure: FailureView | None
    usage: Usage
    waiting: WaitingView | None = None
    history: list[TransitionView]
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    revision: int
    created_revision: int
    live: TaskLiveView | msgspec.UnsetType | None = msgspec.UNSET
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET


class DependencyView(msgspec.Struct, omit_defaults=True):
    """What a dependency came to. `omitted`: its result is too large for this reply; read it where it is."""

    task_id: str
    status: TaskState
    result: msgspec.Raw
    artifacts: msgspec.Raw
    omitted: bool = False


class GrantView(TaskView, kw_only=True):
    """A task that was offered to an agent or claimed by it. `resume` is the newest of `resumes`: the answers to all its
    waits."""

    lease_remaining_ms: int | None
    dependencies: list[DependencyView]
    checkpoint: msgspec.Raw
    resume: ResumeView | None = None
    resumes: list[ResumeView] = []
    offer_expires_in_ms: int | msgspec.UnsetType = msgspec.UNSET


def ratio(ten_thousandths: int | None) -> float | None:
    """A ratio as replies show it."""
    return None if ten_thousandths is None else ten_thousandths / RATIO


def task_view(view: View | None, task: Task, *, full: bool = True) -> TaskView:
    """A task as shown; without `full` what the user and the agents put into it is left out.

    `view` may be None when everything is in the record (`task.bodies` is 0).
    """
    shown = TaskView(**_members(view, task, full))
    if task.status is TaskState.WAITING:
        shown.waiting = waiting_view(task)
    return shown


def waiting_view(task: Task) -> WaitingView | None:
    """What a waiting task waits for."""
    wait = task.wait
    if wait is None:
        return None
    return WaitingView(
        wait.kind,
        wait.name,
        wait.prompt,
        raw(wait.options),
        wait.assignee,
        text(wait.since),
        text_or_none(wait.until),
        wait.on_timeout,
        wait.attempt,
        wait.agent_id,
    )


def _members(view: View | None, task: Task, full: bool) -> dict[str, Any]:
    whole = task_record.with_bodies(view, task) if view is not None and full and task.bodies > 0 else task
    failure, backoff = task.failure, task.backoff
    created_at = text(task.created_at)
    members: dict[str, Any] = {
        "task_id": task.task_id,
        "project": task.project,
        "queue": task.queue,
        "type": task.type,
        "status": task.status,
        "title": task.title,
        "description": whole.description if full else None,
        "payload": raw(whole.payload) if full else NULL,
        "priority": task.priority,
        "requires": [RequirementView(need.name, need.min_proficiency / RATIO) for need in task.requires],
        "labels": _EMPTY_OBJECT if task.labels is None else msgspec.Raw(task.labels),
        "depends_on": whole.depends_on,
        "on_dependency_failure": task.on_dependency_failure,
        "group_id": task.group_id,
        "not_before": text_or_none(task.not_before),
        "deadline": text_or_none(task.deadline),
        "expires_unstarted_ms": task.expires_unstarted_ms,
        "run_timeout_ms": task.run_timeout_ms,
        "lease_ms": task.lease_ms,
        "max_attempts": task.max_attempts,
        "backoff": BackoffView(backoff.initial_ms, backoff.factor / RATIO, backoff.max_ms, backoff.jitter / RATIO),
        "unique_key": task.unique_key,
        "concurrency_key": task.concurrency_key,
        "session_id": task.session_id,
        "metadata": raw(whole.metadata) if full else NULL,
        "attempt": task.attempt,
        "tries": task.tries,
        "agent_id": task.agent_id,
        "progress": ProgressView(ratio(task.fraction), task.progress_message, raw(whole.checkpoint) if full else NULL),
        "result": raw(whole.result) if full else NULL,
        "artifacts": msgspec.Raw(whole.artifacts) if full and whole.artifacts is not None else _EMPTY_LIST,
        "failure": None
        if failure is None
        else FailureView(failure.reason, failure.message, failure.attempt, text(failure.at)),
        "usage": Usage(task.usage[0], task.usage[1], dollars(task.usage[2])),
        "history": [
            TransitionView(text(line.at), line.from_state, line.to_state, line.attempt, line.agent_id, line.reason)
            for line in task.history
        ],
        "created_at": created_at,
        "updated_at": created_at if task.updated_at == task.created_at else text(task.updated_at),
        "started_at": text_or_none(task.started_at),
        "completed_at": text_or_none(task.completed_at),
        "revision": task.revision,
        "created_revision": task.created_revision,
    }
    if task.locks:
        members["locks"] = lock_views(task.locks)
    return members


def lock_views(locks: tuple[PathLock, ...]) -> list[LockView]:
    """Locks as asked for."""
    return [LockView(lock.path, lock.exclusive) for lock in locks]


def grant_view(view: View, task: Task, lease_remaining_ms: int | None) -> GrantView:
    """A granted task with what its dependencies came to."""
    members = _members(view, task, full=True)
    resumes = _resumes(view, task) if task.resumes is not None or task.bodies else []
    return GrantView(
        **members,
        lease_remaining_ms=lease_remaining_ms,
        dependencies=_dependencies(view, task) if members["depends_on"] else [],
        checkpoint=members["progress"].checkpoint,
        resume=resumes[-1] if resumes else None,
        resumes=resumes,
    )


def _resumes(view: View, task: Task) -> list[ResumeView]:
    return [
        ResumeView(answer.kind, answer.name, raw(answer.data), answer.actor, text(answer.at), answer.timed_out)
        for answer in task_resumes.answers(view, task)
    ]


def _dependencies(view: View, task: Task) -> list[DependencyView]:
    shown: list[DependencyView] = []
    left = REPLY_BYTES_MAX
    for other in task_queries.dependency_results(view, task):
        size = len(other.result or b"") + len(other.artifacts or b"")
        if size > left:
            shown.append(DependencyView(other.task_id, other.status, NULL, _EMPTY_LIST, omitted=True))
            continue
        left -= size
        artifacts = _EMPTY_LIST if other.artifacts is None else msgspec.Raw(other.artifacts)
        shown.append(DependencyView(other.task_id, other.status, raw(other.result), artifacts))
    return shown


def live_views(live: LiveTasks | None) -> dict[tuple[str, str], TaskLiveView]:
    """What the leader knows, by (project, task id)."""
    if live is None:
        return {}
    as_of = text(live.as_of_ms)
    return {
        (task.project, task.task_id): TaskLiveView(
            as_of, task.attempt, task.lease_remaining_ms, ratio(task.fraction), task.message
        )
        for task in live.tasks
    }


def with_live(shown: TaskView, live: TaskLiveView | None) -> TaskView:
    """The task with what the leader knows; its newest progress goes before the one kept with a checkpoint."""
    shown.live = live
    if live is not None and live.attempt == shown.attempt:
        if live.fraction is not None:
            shown.progress.fraction = live.fraction
        if live.message is not None:
            shown.progress.message = live.message
    return shown


def find_task(request: Request[Any, Any], view: View, task_id: str) -> Task:
    """The task of that id in the request's project. Raises Problem `unknown_project`, `not_found`."""
    task = task_record.find(view, request.project_number(view), task_id)
    if task is None:
        raise Problem("not_found", f"task {task_id!r} is unknown here at revision {view.revision}")
    return task


def shown_item(request: Request[Any, Any], view: View, item: Item) -> TaskView | None:
    """The task as the write that this item answers left it; for a repeat as it is now, None when it is gone."""
    task = record_of(item)
    return shown_task(request, view, item.resource_id) if task is None else task_view(view, task)


def shown_attempt(request: Request[Any, Any], view: View, item: Item) -> TaskView | None:
    """As `shown_item`, for a verb of the attempt that the body names: a repeat is told the attempt and revision of the
    first call, other fields as they are now."""
    shown = shown_item(request, view, item)
    if shown is not None:
        shown.attempt, shown.revision = request.body.attempt, item.revision
    return shown


def shown_task(request: Request[Any, Any], view: View, task_id: str) -> TaskView | None:
    """The task as it is now; None when it is gone."""
    task = task_record.find(view, request.project_number(view), task_id)
    return None if task is None else task_view(view, task)
