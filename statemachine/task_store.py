"""Writing tasks: the one place that keeps record, indexes, counters, groups and slots in step.

`Placement` remembers where a task stood before a handler changed it; `save` writes the difference. The
index rows are a pure function of the record (`task_rows.index_rows`), so they cannot drift, and `audit` can
compare them both ways.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from statemachine import (
    agent_record,
    budgets,
    former_tasks,
    groups,
    limits,
    path_locks,
    queues,
    task_record,
)
from statemachine.context import Context
from statemachine.keys import u64
from statemachine.outcome import Refused
from statemachine.proficiency import NO_VERDICT, Ended
from statemachine.task_record import Task, Transition, Win
from statemachine.task_rows import index_rows, only_row, save_rows
from statemachine.task_states import ENDED, HELD, LEGAL, STOPPED, TaskState, Verb

_CHANGED_BY_VERB: dict[Verb, str] = {
    Verb.RELEASE: "task.released",
    Verb.WITHDRAW: "task.requeued",
    Verb.CHECKPOINT: "task.progress",
    Verb.RESUME: "task.resumed",
}


def _change_of(status: TaskState, verb: Verb, to: TaskState) -> str:
    if status is to and to in ENDED:
        return "task.released"
    if verb is Verb.REQUEUE and to is TaskState.PENDING:
        return "task.requeued"
    return _CHANGED_BY_VERB.get(verb) or ("task.started" if to is TaskState.RUNNING else f"task.{to}")


_CHANGED = {transition: _change_of(*transition) for transition in LEGAL}
"""The type of the change by transition: all that are legal."""

COUNTER = {state: f"tasks.{state}" for state in TaskState}
_DECREES = frozenset({Verb.CANCEL, Verb.EXPIRE})
_FAILURES = frozenset({Verb.FAIL, Verb.LOSE, Verb.TIME_OUT})

# An Enum's member costs a look-up in its class each time.
_PENDING, _RUNNING, _COMPLETED = TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED

# Texts made of a queue's name, which every write of a task needs.
_QUEUES_REMEMBERED = 1_024

# Reasons are kept up to 20 times in a record that every transition rewrites.
_REASON_CHARACTERS_MAX = 100


class Placement(msgspec.Struct, gc=False):
    """Where a task stood: `task` is the record being changed, `was` a copy as it was before."""

    task: Task
    was: Task


def place(task: Task) -> Placement:
    """Remember where the task stands. TAKE IT BEFORE CHANGING ANYTHING of the task."""
    return Placement(task, msgspec.structs.replace(task))


@lru_cache(maxsize=_QUEUES_REMEMBERED)
def pending_counter(queue: str) -> str:
    """The name of the counter of a queue's pending tasks."""
    return f"queue.{queue}.pending"


@lru_cache(maxsize=_QUEUES_REMEMBERED)
def _queue_topic(queue: str) -> str:
    return f"queue.{queue}"


def save(ctx: Context, before: Placement, ended: Ended | None = None) -> None:
    """Write a changed task and everything that follows from where it now stands.

    `ended` is the attempt that ended, for the record of the agent that lets go of the task.
    """
    state, was, task = ctx.state, before.was, before.task
    if task.reserved and not task.holder_no:
        budgets.give_back(ctx, task)
    if task.locks:
        path_locks.recount(state, task.project_no, len(path_locks.rows_of(task)) - len(path_locks.rows_of(was)))
    save_rows(state, was, task)
    state.put(task_record.key(task.project_no, task.number), task_record.encode(task))
    if was.holder_no != task.holder_no:
        if was.holder_no:
            agent_record.add_load(state, was.holder_no, -1, ended)
        if task.holder_no:
            agent_record.add_load(state, task.holder_no, 1)
    _recount(ctx, was, task)


def _recount(ctx: Context, was: Task, task: Task) -> None:
    status_was, status, queue_was, queue = was.status, task.status, was.queue, task.queue
    held_was, held = int(was.holder_no > 0), int(task.holder_no > 0)
    if status_was is status and queue_was == queue and held_was == held:
        return
    project_no = task.project_no
    if status_was is not status or (status is _PENDING and queue_was != queue):
        counts = ctx.counts_of(project_no)
        if status_was is _PENDING:
            _add(counts, pending_counter(queue_was), -1)
        if status is _PENDING:
            _add(counts, pending_counter(queue), 1)
        if status_was is not status:
            _add(counts, COUNTER[status_was], -1)
            _add(counts, COUNTER[status], 1)
            if task.group_id is not None:
                groups.move(ctx.state, task, status_was)
    if queue_was == queue:
        queues.add(ctx, project_no, queue, task.revision, status_was, status, held - held_was, granted=held > held_was)
    elif status_was is not _PENDING or status is not _PENDING:
        queues.add(ctx, project_no, queue_was, task.revision, status_was, None, -held_was)
        queues.add(ctx, project_no, queue, task.revision, None, status, held)


def _add(counts: dict[str, int], name: str, delta: int) -> None:
    counts[name] = counts.get(name, 0) + delta


def create(ctx: Context, task: Task, id_key: bytes) -> None:
    """Write a new task: record, id (`task_record.id_key`), and the rows of its state (three writes for a plain pending
    one)."""
    state, project_no = ctx.state, task.project_no
    state.put(task_record.key(project_no, task.number), task_record.encode(task))
    state.put(id_key, u64(task.number))
    row = only_row(task)
    if row is not None:
        state.put(*row)
    else:
        for row_key, value in index_rows(task).items():
            state.put(row_key, value)
    counts = ctx.counts_of(project_no)
    _add(counts, COUNTER[task.status], 1)
    if task.status is _PENDING:
        _add(counts, pending_counter(task.queue), 1)
    else:
        queues.add(ctx, project_no, task.queue, task.revision, None, task.status)
        if task.status in ENDED:
            ctx.meta.tasks_ended += 1
    if task.group_id is not None:
        groups.add(state, task)
    report(ctx, task, "task.created", {"to": task.status})


def remove(ctx: Context, task: Task, revision: int) -> None:
    """Take an ended task that nobody holds out of the state; the rows of its dependencies are the caller's."""
    state, project_no = ctx.state, task.project_no
    for row_key in index_rows(task):
        state.delete(row_key)
    task_record.delete_bodies(state, task)
    state.delete(task_record.key(project_no, task.number))
    former_tasks.keep(ctx, task)
    groups.remove(state, task, revision)
    queues.add(ctx, project_no, task.queue, revision, task.status, None)
    ctx.count(COUNTER[task.status], -1, project_no=project_no)
    ctx.meta.tasks_ended -= 1
    task.revision = revision
    report(ctx, task, "task.deleted", {"from": task.status, "reason": "retention"})


def move(
    ctx: Context,
    before: Placement,
    verb: Verb,
    to: TaskState,
    revision: int,
    *,
    reason: str | None = None,
) -> None:
    """Take a task from where it stood (`before`) to `to`: history, times, slot, indexes, counters, change.

    Other fields were set by the caller. The agent's slot is freed unless the new state is held, or the
    task was running and is stopped by decree: then until its agent confirms.
    """
    was, task = before.was, before.task
    status, agent_id = was.status, task.agent_id
    kind = _CHANGED.get((status, verb, to))
    if kind is None:
        raise AssertionError(f"{verb} must not take a task from {status} to {to}")
    if reason is not None:
        reason = reason[:_REASON_CHARACTERS_MAX]
    line = Transition(ctx.time_ms, status, to, task.attempt, agent_id, reason)
    task.history = (*task.history, line)[-limits.HISTORY_TRANSITIONS_MAX :]
    task.status = to
    task.updated_at = ctx.time_ms
    task.revision = revision
    task.unmet = 0
    if to not in HELD:
        _settle_holder(before, verb, to)
    if to in ENDED and status not in ENDED:
        task.completed_at = ctx.time_ms
        ctx.meta.tasks_ended += 1
    save(ctx, before, _ended(before, verb, to) if was.holder_no and not task.holder_no else None)
    data: dict[str, Any] = {"from": status, "to": to, "attempt": task.attempt}
    if agent_id is not None:
        data["agent_id"] = agent_id
    if reason is not None:
        data["reason"] = reason
    report(ctx, task, kind, data, agent_id)


def _ended(before: Placement, verb: Verb, to: TaskState) -> Ended | None:
    """The attempt that ended, if this is the end of one that completed or failed."""
    task = before.task
    cost_micro = task.usage[2] - before.was.usage[2]
    if to is _COMPLETED:
        return Ended(task, True, True, cost_micro)
    if verb not in _FAILURES or to in STOPPED:
        return None
    judged = task.failure is not None and task.failure.reason not in NO_VERDICT
    return Ended(task, False, False if judged else None, cost_micro)


def _settle_holder(before: Placement, verb: Verb, to: TaskState) -> None:
    task = before.task
    if before.was.status is not _RUNNING or verb not in _DECREES:
        task.holder_no = 0
    if to not in ENDED:
        task.agent_id = None
        task.granted_at = None


def report(ctx: Context, task: Task, kind: str, data: dict[str, Any] | None, agent_id: str | None = None) -> None:
    """Tell watchers, under the topics of the task's queue, group, session and agent."""
    topics: tuple[str, ...] = (_queue_topic(task.queue),)
    if task.group_id is not None:
        topics = (*topics, f"group.{task.group_id}")
    if task.session_id is not None:
        topics = (*topics, f"session.{task.session_id}")
    if agent_id is not None:
        topics = (*topics, f"agent.{agent_id}")
    ctx.change(task.revision, kind, "task", task.task_id, topics=topics, data=data, project=task.project)


def win(task: Task, verb: Verb, revision: int) -> None:
    """Remember that the holder ended this attempt with this verb. BEFORE `move`, which forgets the holder."""
    if task.agent_id is None:
        raise AssertionError(f"task {task.task_id}: nobody holds it, so nobody can win")
    task.wins = (*task.wins, Win(task.attempt, verb, task.agent_id, revision))[-limits.TASK_WINS_MAX :]


def current(task: Task) -> dict[str, Any]:
    """What a refused caller is told of the task (`granted_at` in milliseconds)."""
    return {
        "status": str(task.status),
        "attempt": task.attempt,
        "agent_id": task.agent_id,
        "granted_at": task.granted_at,
    }


def conflict(task: Task, detail: str) -> Refused:
    """The refusal of something that the task's state does not allow."""
    return Refused("conflict", detail, current(task))


def not_found(task_id: str) -> Refused:
    """The refusal of a task that is not there."""
    return Refused("not_found", f"no task {task_id!r} in this project")


def require(ctx: Context, task_id: str) -> Task:
    """The task of the command's project, or the refusal `not_found`."""
    task = task_record.find(ctx.state, ctx.require_project().number, task_id)
    if task is None:
        raise not_found(task_id)
    return task
