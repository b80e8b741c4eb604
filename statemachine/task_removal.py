"""Retention: tasks that ended long ago are removed, when nothing that may still run refers to them.

Who waits for a task, or may be redriven and then be given its result, keeps it. One that many depended on stays until
most of those are removed themselves, so that a step looks at a bounded number of rows.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from statemachine import limits, projects, task_record, task_store
from statemachine.commands import Believed, RemoveEndedTasks
from statemachine.context import Context
from statemachine.outcome import Item, Outcome
from statemachine.store import Reader
from statemachine.task_dependencies import dependents, row
from statemachine.task_record import Task
from statemachine.task_states import ENDED, FINAL


class Look(NamedTuple):
    """What was found: how many rows it took, or a removal takes, and the numbers of the tasks that depended on this
    one; None: it must stay for now."""

    rows: int
    freed: list[int] | None


def look(reader: Reader, task: Task) -> Look:
    """Whether an ended task may be removed."""
    if task.status not in ENDED or task.holder_no:
        return Look(1, None)
    freed: list[int] = []
    for number, _ in islice(dependents(reader, task.project_no, task.number), limits.SIDE_EFFECTS_MAX + 1):
        freed.append(number)
        other = task_record.get(reader, task.project_no, number)
        if other is None:
            raise AssertionError(f"task number {number} depends on {task.task_id} and is not there")
        if other.status not in FINAL or len(freed) > limits.SIDE_EFFECTS_MAX:
            return Look(1 + len(freed), None)
    return Look(1 + len(freed) + len(task_record.depends_on(reader, task)), freed)


def remove_ended_tasks(ctx: Context, command: RemoveEndedTasks) -> Outcome:
    """RemoveEndedTasks. Rows count as effects: items beyond the bound are passed over, and come again."""
    budget = limits.SIDE_EFFECTS_MAX
    items: list[Item] = []
    for item in command.items:
        task = _believed(ctx, item) if budget > 0 else None
        found = Look(0, None) if task is None else look(ctx.state, task)
        budget -= found.rows
        if task is None or found.freed is None:
            items.append(Item(0, item.task_id))
            continue
        _remove(ctx, task, found.freed)
        items.append(Item(200, item.task_id, task.revision))
    return Outcome(ctx.meta.revision, tuple(items))


def _believed(ctx: Context, item: Believed) -> Task | None:
    project = projects.find(ctx.state, item.project)
    task = None if project is None else task_record.find(ctx.state, project.number, item.task_id)
    if task is None or task.attempt != item.attempt or task.status != item.status:
        return None
    return task


def _remove(ctx: Context, task: Task, freed: list[int]) -> None:
    state, project_no = ctx.state, task.project_no
    for number in freed:
        state.delete(row(project_no, task.number, number))
    for task_id in task_record.depends_on(state, task):
        number_before = task_record.number_of(state, project_no, task_id)
        if number_before is not None:
            state.delete(row(project_no, number_before, task.number))
    task_store.remove(ctx, task, ctx.take_revision())
