"""Writing tasks: the one place that keeps record, indexes, counters, groups and slots in step.

`Placement` remembers where a task stood before a handler changed it; `save` writes the difference. The
index rows are a pure function of the record (`index_rows`), so they cannot drift, and `audit` can
compare them both ways.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, NamedTuple

from statemachine import (
    agent_record,
    budgets,
    former_tasks,
    groups,
    limits,
    path_locks,
    queue_limits,
    queues,
    task_record,
)
from statemachine.context import Context
from statemachine.keys import name, u64
from statemachine.outcome import Refused
from statemachine.proficiency import NO_VERDICT, Ended
from statemachine.task_record import Task, Transition, Win
from statemachine.task_states import ENDED, STOPPED, TaskState, Verb, check

TIMER_DEADLINE, TIMER_UNSTARTED, TIMER_RUN, TIMER_WAIT = 1, 2, 3, 4
"""Kinds of timer rows: `deadline`, `expires_unstarted_ms`, `run_timeout_ms`, the `timeout_ms` of a wait."""

PRIORITY_TOP = limits.PRIORITY_MAX
OF_SESSION = b"\x01"
"""The value of a pending task's row in table Q when the task belongs to a session, and so has a row in table r."""

CHANGED_BY_VERB: dict[Verb, str] = {
    Verb.RELEASE: "task.released",
    Verb.WITHDRAW: "task.requeued",
    Verb.REQUEUE: "task.requeued",
    Verb.CHECKPOINT: "task.progress",
    Verb.RESUME: "task.resumed",
}
CHANGED_BY_STATE: dict[TaskState, str] = {
    TaskState.RUNNING: "task.started",
    **{state: f"task.{state}" for state in TaskState if state is not TaskState.RUNNING},
}
COUNTER = {state: f"tasks.{state}" for state in TaskState}
_FAILURES = frozenset({Verb.FAIL, Verb.LOSE, Verb.TIME_OUT})

# Texts made of a queue's name, which every write of a task needs.
_QUEUES_REMEMBERED = 1_024

# Reasons are kept up to 20 times in a record that every transition rewrites.
_REASON_CHARACTERS_MAX = 100

_tail = struct.Struct(">IQ").pack
_queue_tail = struct.Struct(">BQ").pack
_due_key = struct.Struct(">cQIQ").pack
_timer_key = struct.Struct(">cQBIQ").pack


class Placement(NamedTuple):
    """Where a task stood: its index rows, what counters say of it, what it had cost. `task` is the record being
    changed."""

    task: Task
    rows: dict[bytes, bytes]
    status: TaskState
    queue: str
    holder_no: int
    cost_micro: int
    locks: int


def place(task: Task) -> Placement:
    """Remember where the task stands. TAKE IT BEFORE CHANGING ANYTHING of the task."""
    locks = len(task.locks) if task.locks and path_locks.holds(task) else 0
    return Placement(task, index_rows(task), task.status, task.queue, task.holder_no, task.usage[2], locks)


def index_rows(task: Task) -> dict[bytes, bytes]:
    """The index rows a task in this state has, apart from those that never change (id, group member,
    dependents)."""
    rows: dict[bytes, bytes] = {}
    status, project_no, number = task.status, task.project_no, task.number
    if task.holder_no:
        rows[b"H" + u64(task.holder_no) + _tail(project_no, number)] = u64(task.attempt)
        if task.concurrency_key is not None:
            rows[queue_limits.held_key(project_no, task.concurrency_key, number)] = b""
    if task.locks:
        rows.update(path_locks.rows_of(task))
    if status in ENDED:
        rows[task_record.ended_key(task.completed_at or 0, project_no, number)] = b""
        if status is TaskState.FAILED:
            rows[task_record.aside_key(project_no, task_record.ASIDE[status], number)] = b""
        return rows
    if status is TaskState.PENDING:
        row_key = pending_prefix(project_no, task.queue) + _queue_tail(PRIORITY_TOP - task.priority, number)
        rows[row_key] = b"" if task.session_id is None else OF_SESSION
        if task.session_id is not None or task.concurrency_key is not None:
            _add_pending_rows(task, rows)
    elif status is TaskState.SCHEDULED:
        rows[_due_key(b"D", task.due_at or 0, project_no, number)] = b""
    elif status is TaskState.WAITING:
        rows[task_record.aside_key(project_no, task_record.ASIDE[status], number)] = b""
        if task.wait is not None and task.wait.until is not None:
            rows[_timer_key(b"K", task.wait.until, TIMER_WAIT, project_no, number)] = b""
    if task.unique_key is not None:
        rows[unique_key(project_no, task.unique_key)] = u64(number)
    for at, kind in timers(task):
        rows[_timer_key(b"K", at, kind, project_no, number)] = b""
    return rows


def _add_pending_rows(task: Task, rows: dict[bytes, bytes]) -> None:
    rank = PRIORITY_TOP - task.priority
    if task.session_id is not None:
        rows[queue_limits.session_key(task.project_no, task.queue, task.session_id, rank, task.number)] = b""
    if task.concurrency_key is not None:
        rows[queue_limits.pending_key(task, rank)] = b""


def timers(task: Task) -> list[tuple[int, int]]:
    """(time, kind) of everything that time may do to a task that has not ended, apart from waking it and ending its
    wait."""
    found: list[tuple[int, int]] = []
    if task.deadline is not None:
        found.append((max(task.deadline, 0), TIMER_DEADLINE))
    if task.expires_unstarted_ms is not None and task.started_at is None:
        found.append((task.created_at + task.expires_unstarted_ms, TIMER_UNSTARTED))
    if task.run_timeout_ms is not None and task.status is TaskState.RUNNING and task.started_at is not None:
        found.append((task.started_at + task.run_timeout_ms, TIMER_RUN))
    return found


@lru_cache(maxsize=_QUEUES_REMEMBERED)
def pending_prefix(project_no: int, queue: str) -> bytes:
    """The prefix of a queue's rows in the index of pending tasks."""
    return b"Q" + project_no.to_bytes(4, "big") + name(queue)


@lru_cache(maxsize=_QUEUES_REMEMBERED)
def pending_counter(queue: str) -> str:
    """The name of the counter of a queue's pending tasks."""
    return f"queue.{queue}.pending"


@lru_cache(maxsize=_QUEUES_REMEMBERED)
def _queue_topic(queue: str) -> str:
    return f"queue.{queue}"


def unique_key(project_no: int, text: str) -> bytes:
    """The key of the row that says which task holds a unique key."""
    return b"U" + project_no.to_bytes(4, "big") + name(text)


def save(ctx: Context, before: Placement, ended: Ended | None = None) -> None:
    """Write a changed task and everything that follows from where it now stands.

    `ended` is the attempt that ended, for the record of the agent that lets go of the task.
    """
    state, task = ctx.state, before.task
    if task.reserved and not task.holder_no:
        budgets.give_back(ctx, task)
    after = index_rows(task)
    if task.locks:
        path_locks.recount(state, task.project_no, len(path_locks.rows_of(task)) - before.locks)
    for row_key, value in before.rows.items():
        if row_key not in after:
            state.delete(row_key)
        elif after[row_key] == value:
            del after[row_key]
    for row_key, value in after.items():
        state.put(row_key, value)
    state.put(task_record.key(task.project_no, task.number), task_record.encode(task))
    if before.holder_no != task.holder_no:
        if before.holder_no:
            agent_record.add_load(state, before.holder_no, -1, ended)
        if task.holder_no:
            agent_record.add_load(state, task.holder_no, 1)
    _recount(ctx, before)


def _recount(ctx: Context, before: Placement) -> None:
    task = before.task
    project_no = task.project_no
    was_pending = before.status is TaskState.PENDING
    is_pending = task.status is TaskState.PENDING
    if was_pending and not (is_pending and before.queue == task.queue):
        ctx.count(pending_counter(before.queue), -1, project_no=project_no)
    if is_pending and not (was_pending and before.queue == task.queue):
        ctx.count(pending_counter(task.queue), 1, project_no=project_no)
    if not (was_pending and is_pending):
        _recount_queues(ctx, before)
    if before.status is task.status:
        return
    ctx.count(COUNTER[before.status], -1, project_no=project_no)
    ctx.count(COUNTER[task.status], 1, project_no=project_no)
    groups.move(ctx.state, task, before.status)


def _recount_queues(ctx: Context, before: Placement) -> None:
    task = before.task
    project_no, held_before, held = task.project_no, int(before.holder_no > 0), int(task.holder_no > 0)
    if before.queue != task.queue:
        queues.add(ctx, project_no, before.queue, task.revision, ((before.status, -1),), -held_before)
        queues.add(ctx, project_no, task.queue, task.revision, ((task.status, 1),), held)
    elif before.status is not task.status or held_before != held:
        deltas = ((before.status, -1), (task.status, 1))
        queues.add(ctx, project_no, task.queue, task.revision, deltas, held - held_before)


def create(ctx: Context, task: Task, id_key: bytes) -> None:
    """Write a new task: record, id (`task_record.id_key`), and the rows of its state (three writes for a plain pending
    one)."""
    state, project_no = ctx.state, task.project_no
    state.put(task_record.key(project_no, task.number), task_record.encode(task))
    state.put(id_key, u64(task.number))
    for row_key, value in index_rows(task).items():
        state.put(row_key, value)
    ctx.count(COUNTER[task.status], 1, project_no=project_no)
    if task.status is TaskState.PENDING:
        ctx.count(pending_counter(task.queue), 1, project_no=project_no)
    else:
        queues.add(ctx, project_no, task.queue, task.revision, ((task.status, 1),))
        if task.status in ENDED:
            ctx.meta.tasks_ended += 1
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
    queues.add(ctx, project_no, task.queue, revision, ((task.status, -1),))
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
    check(before.status, verb, to)
    task = before.task
    agent_id = task.agent_id
    if reason is not None:
        reason = reason[:_REASON_CHARACTERS_MAX]
    line = Transition(ctx.time_ms, before.status, to, task.attempt, agent_id, reason)
    task.history = (*task.history, line)[-limits.HISTORY_TRANSITIONS_MAX :]
    task.status = to
    task.updated_at = ctx.time_ms
    task.revision = revision
    _settle_holder(before, verb, to)
    task.unmet = 0
    if to in ENDED and before.status not in ENDED:
        task.completed_at = ctx.time_ms
        ctx.meta.tasks_ended += 1
    save(ctx, before, _ended(before, verb, to))
    kind = CHANGED_BY_VERB.get(verb) or CHANGED_BY_STATE[to]
    if verb is Verb.REQUEUE and to is not TaskState.PENDING:
        kind = CHANGED_BY_STATE[to]
    if to is before.status and to in ENDED:
        kind = "task.released"
    data: dict[str, Any] = {"from": before.status, "to": to, "attempt": task.attempt}
    if agent_id is not None:
        data["agent_id"] = agent_id
    if reason is not None:
        data["reason"] = reason
    report(ctx, task, kind, data, agent_id)


def _ended(before: Placement, verb: Verb, to: TaskState) -> Ended | None:
    """The attempt that ended, if this is the end of one that completed or failed."""
    task = before.task
    cost_micro = task.usage[2] - before.cost_micro
    if to is TaskState.COMPLETED:
        return Ended(task, True, True, cost_micro)
    if verb not in _FAILURES or to in STOPPED:
        return None
    judged = task.failure is not None and task.failure.reason not in NO_VERDICT
    return Ended(task, False, False if judged else None, cost_micro)


def _settle_holder(before: Placement, verb: Verb, to: TaskState) -> None:
    task = before.task
    if to in (TaskState.ASSIGNED, TaskState.RUNNING):
        return
    stopped = verb in (Verb.CANCEL, Verb.EXPIRE) and before.status is TaskState.RUNNING
    if not stopped:
        task.holder_no = 0
    if to not in ENDED:
        task.agent_id = None
        task.granted_at = None


def report(ctx: Context, task: Task, kind: str, data: dict[str, Any] | None, agent_id: str | None = None) -> None:
    """Tell watchers, under the topics of the task's queue, group, session and agent."""
    topics = [_queue_topic(task.queue)]
    if task.group_id is not None:
        topics.append(f"group.{task.group_id}")
    if task.session_id is not None:
        topics.append(f"session.{task.session_id}")
    if agent_id is not None:
        topics.append(f"agent.{agent_id}")
    ctx.change(task.revision, kind, "task", task.task_id, topics=tuple(topics), data=data, project=task.project)


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
