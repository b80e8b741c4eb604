"""The index rows of a task: a pure function of its record."""

from __future__ import annotations

import struct
from functools import lru_cache

from statemachine import limits, path_locks, queue_limits, task_record
from statemachine.keys import name, u64
from statemachine.store import Overlay
from statemachine.task_record import Task
from statemachine.task_states import ENDED, TaskState

TIMER_DEADLINE, TIMER_UNSTARTED, TIMER_RUN, TIMER_WAIT = 1, 2, 3, 4
"""Kinds of timer rows: `deadline`, `expires_unstarted_ms`, `run_timeout_ms`, the `timeout_ms` of a wait."""

PRIORITY_TOP = limits.PRIORITY_MAX
OF_SESSION = b"\x01"
"""The value of a pending task's row in table Q when the task belongs to a session, and so has a row in table r."""

# An Enum's member costs a look-up in its class each time.
_PENDING, _ASSIGNED, _RUNNING = TaskState.PENDING, TaskState.ASSIGNED, TaskState.RUNNING
_COMPLETED = TaskState.COMPLETED

# Prefixes made of a queue's name, which every write of a task needs.
_QUEUES_REMEMBERED = 1_024

_held_key = struct.Struct(">cQIQ").pack
_queue_tail = struct.Struct(">BQ").pack
_due_key = struct.Struct(">cQIQ").pack
_timer_key = struct.Struct(">cQBIQ").pack


def index_rows(task: Task) -> dict[bytes, bytes]:
    """The index rows a task in this state has, apart from those that never change (id, group member,
    dependents)."""
    rows: dict[bytes, bytes] = {}
    status, project_no, number = task.status, task.project_no, task.number
    if task.holder_no:
        rows[_held_key(b"H", task.holder_no, project_no, number)] = u64(task.attempt)
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


def only_row(task: Task) -> tuple[bytes, bytes] | None:
    """What `index_rows` says of the common task, which has one row in the states that most are in; None of any other.

    Every transition asks twice: this is `index_rows` made short, and a test compares the two.
    """
    if (
        task.locks
        or task.concurrency_key is not None
        or task.session_id is not None
        or task.unique_key is not None
        or task.deadline is not None
        or task.expires_unstarted_ms is not None
        or task.run_timeout_ms is not None
    ):
        return None
    status = task.status
    if task.holder_no:
        if status is not _RUNNING and status is not _ASSIGNED:
            return None
        return _held_key(b"H", task.holder_no, task.project_no, task.number), u64(task.attempt)
    if status is _PENDING:
        prefix = pending_prefix(task.project_no, task.queue)
        return prefix + _queue_tail(PRIORITY_TOP - task.priority, task.number), b""
    if status is _COMPLETED:
        return task_record.ended_key(task.completed_at or 0, task.project_no, task.number), b""
    return None


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


def unique_key(project_no: int, text: str) -> bytes:
    """The key of the row that says which task holds a unique key."""
    return b"U" + project_no.to_bytes(4, "big") + name(text)


def save_rows(state: Overlay, was: Task, task: Task) -> None:
    """Write what is different between the index rows of the two."""
    old, new = only_row(was), only_row(task)
    if old is not None and new is not None:
        if old[0] != new[0]:
            state.delete(old[0])
        if old != new:
            state.put(*new)
        return
    before, after = index_rows(was), index_rows(task)
    for row_key in before:
        if row_key not in after:
            state.delete(row_key)
    for row_key, value in after.items():
        if before.get(row_key) != value:
            state.put(row_key, value)
