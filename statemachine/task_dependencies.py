"""What follows when a task ends: its dependents become free, stay blocked, or are cancelled with it.

A row in table d stands for each dependency for good: (dependency, dependent) -> empty while it is
unmet, `+` once it is satisfied. A task that is `blocked` counts its unmet ones. Only a blocked task is
touched: one that was cancelled or expired in the meantime keeps its rows as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from statemachine import limits, task_record, task_store, work
from statemachine.context import Context
from statemachine.keys import from_u64
from statemachine.store import Reader
from statemachine.task_record import LastFailure, Task
from statemachine.task_states import ENDED, TaskState, Verb

SATISFIED = b"+"
UNMET = b""

BLOCK, CANCEL, RUN = "block", "cancel", "run"
"""`on_dependency_failure`."""

_row = struct.Struct(">cIQQ").pack


class Effects:
    """How much one command may still do beside its own effect, and the revision under which it does it.

    A drain has no revision until it changes something: work that finds nothing to do takes none.
    """

    __slots__ = ("left", "taken")

    def __init__(self, left: int | None = None, revision: int = 0) -> None:
        self.left = limits.SIDE_EFFECTS_MAX if left is None else left
        self.taken = revision

    def revision(self, ctx: Context) -> int:
        """The revision of what is done, taken when first needed."""
        if not self.taken:
            self.taken = ctx.take_revision()
        return self.taken

    def under(self, revision: int) -> Effects:
        """Go on under the revision of the next item of a batch: what it causes belongs to it."""
        self.taken = revision
        return self


def row(project_no: int, dependency: int, dependent: int) -> bytes:
    """The key of the row of one dependency."""
    return _row(b"d", project_no, dependency, dependent)


def dependents(
    reader: Reader,
    project_no: int,
    number: int,
    *,
    after: int = -1,
    before: int = 1 << 63,
    reverse: bool = False,
) -> Iterator[tuple[int, bool]]:
    """(task number, satisfied) of the tasks that depend on this one, between two numbers (both excluded)."""
    start, end = _row(b"d", project_no, number, after + 1), _row(b"d", project_no, number, before)
    for key, value in reader.scan(start, end, reverse=reverse):
        yield from_u64(key[-8:]), value == SATISFIED


def satisfies(status: TaskState, on_failure: str) -> bool:
    """Whether a dependency in this state lets a dependent with this policy go on."""
    return status is TaskState.COMPLETED or (on_failure == RUN and status in ENDED)


def settle(ctx: Context, ended: Task, effects: Effects, *, after: int = -1) -> None:
    """Do what follows from the end of a task, and from the ends that causes, as far as `effects` allow.

    What is left goes to work rows. `after` is where an earlier step stopped.
    """
    waiting = [(ended, after)]
    while waiting:
        task, position = waiting.pop()
        # Nearly always there are none: as little as it takes to see that.
        start, end = row(task.project_no, task.number, position + 1), row(task.project_no, task.number, 1 << 63)
        found = islice(ctx.state.scan(start, end), effects.left + 1)
        rows = [(from_u64(key[-8:]), value == SATISFIED) for key, value in found]
        for number, satisfied in rows[: effects.left]:
            position = number
            if not satisfied and (cancelled := _settle_one(ctx, task, number, effects)) is not None:
                waiting.append((cancelled, -1))
        effects.left -= min(len(rows), effects.left)
        if rows and rows[-1][0] > position:
            work.add(ctx, "settle_dependents", {"project": task.project_no, "task": task.number, "after": position})


def _settle_one(ctx: Context, ended: Task, number: int, effects: Effects) -> Task | None:
    """Settle one dependent; returns it when that cancelled it."""
    task = task_record.get(ctx.state, ended.project_no, number)
    if task is None:
        raise AssertionError(f"task number {number} depends on {ended.task_id} and is not there")
    if task.status is not TaskState.BLOCKED:
        return None
    if satisfies(ended.status, task.on_dependency_failure):
        ctx.state.put(row(task.project_no, ended.number, number), SATISFIED)
        _satisfy(ctx, task, effects)
        return None
    if task.on_dependency_failure != CANCEL:
        return None
    before = task_store.place(task)
    task.failure = dependency_failure(ended.task_id, ended.status, ctx.time_ms)
    task_store.move(ctx, before, Verb.CANCEL, TaskState.CANCELLED, effects.revision(ctx), reason="dependency_failed")
    return task


def _satisfy(ctx: Context, task: Task, effects: Effects) -> None:
    before = task_store.place(task)
    task.unmet -= 1
    if task.unmet:
        task_store.save(ctx, before)
        return
    to = first_state(task, ctx.time_ms)
    task_store.move(ctx, before, Verb.UNBLOCK, to, effects.revision(ctx), reason="dependencies")


def first_state(task: Task, time_ms: int) -> TaskState:
    """Where a task without unmet dependencies belongs: `pending`, or `scheduled` (sets `due_at`)."""
    if task.not_before is not None and task.not_before > time_ms:
        task.due_at = task.not_before
        return TaskState.SCHEDULED
    task.due_at = None
    return TaskState.PENDING


def dependency_failure(task_id: str, status: TaskState, time_ms: int) -> LastFailure:
    """The failure of a task that is cancelled with its dependency."""
    return LastFailure("dependency_failed", f"dependency {task_id} is {status}", 0, time_ms)


def _drain(ctx: Context, payload: dict[str, int | str], effects_max: int) -> tuple[int, dict[str, int | str] | None]:
    """What a new row of work says goes to the end of the line, so that one large task does not hold up
    the others."""
    effects = Effects(effects_max)
    task = task_record.get(ctx.state, int(payload["project"]), int(payload["task"]))
    # It may have been redriven since; it settles its dependents again when it ends again.
    if task is not None and task.status in ENDED:
        settle(ctx, task, effects, after=int(payload["after"]))
    return effects_max - effects.left, None


work.KINDS["settle_dependents"] = _drain
