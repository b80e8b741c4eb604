"""The runs of schedules: a due time becomes a task, or is passed over, once.

The id of a run's task is made of the schedule's id and the due time (`run_id`), so that it can be told beforehand, and
so that a task of this id which is there already is never made a second time.
"""

from __future__ import annotations

from typing import Any

import msgspec

from statemachine import limits, schedule_record, task_dependencies, task_edits, task_record, task_submit
from statemachine.commands import FireSchedule, TriggerSchedule
from statemachine.context import Context
from statemachine.outcome import Item, Outcome, Refusal, Refused, accepted, record_of
from statemachine.schedule_record import OVERLAPS, QUEUE, REPLACE, SKIP, Schedule, Skip
from statemachine.task_dependencies import Effects
from statemachine.task_record import Task
from statemachine.task_states import ENDED


def run_id(schedule_id: str, due_ms: int) -> str:
    """The id of the task of a run."""
    return f"{schedule_id}:{due_ms}"


def triggered_id(schedule_id: str, revision: int) -> str:
    """The id of the task of a run that was asked for by hand."""
    return f"{schedule_id}:r{revision}"


def require(ctx: Context, schedule_id: str) -> Schedule:
    """The schedule of the command's project, or the refusal `not_found`."""
    schedule = schedule_record.find(ctx.state, ctx.require_project().number, schedule_id)
    if schedule is None:
        raise Refused("not_found", f"no schedule {schedule_id!r} in this project")
    return schedule


def current_of(schedule: Schedule) -> dict[str, Any]:
    """What a refusal shows of the schedule that stands in the way."""
    return {
        "schedule_id": schedule.schedule_id,
        "next_run_at": schedule.next_run_at,
        "last_run_at": schedule.last_run_at,
        "last_task_id": schedule.last_task_id,
        "revision": schedule.revision,
        "definition_revision": schedule.definition_revision,
    }


def fire(ctx: Context, command: FireSchedule) -> Outcome:
    """FireSchedule."""
    project_no = ctx.require_project().number
    schedule = schedule_record.find(ctx.state, project_no, command.schedule_id)
    if schedule is None or not _holds(schedule, command, ctx.time_ms):
        return Outcome(ctx.meta.revision, (Item(0, command.schedule_id),))
    waited_for = schedule_record.due_key(project_no, schedule)
    schedule.next_run_at = command.next_ms
    if command.run_ms is None and not command.missed:
        # Due before its definition was: nothing happened that anybody is told of.
        schedule_record.put(ctx.state, project_no, schedule, waited_for=waited_for)
        return Outcome(ctx.meta.revision, (Item(200, command.schedule_id, schedule.revision),))
    revision = ctx.take_revision()
    data: dict[str, Any] = {"due_at": command.run_ms, "missed": command.missed, "next_run_at": command.next_ms}
    schedule.missed += command.missed
    reason: str | None = None
    if command.run_ms is None:
        data["due_at"], reason = command.due_ms, "missed"
        schedule.last_skip = Skip(command.due_ms, reason)
    else:
        task_id = run_id(schedule.schedule_id, command.run_ms)
        item = _start(ctx, schedule, task_id, None, revision)
        if item.refusal is None:
            schedule.last_run_at, data["task_id"] = command.run_ms, task_id
        else:
            reason = item.refusal.code
            schedule.skipped += 1
            schedule.last_skip = Skip(command.run_ms, reason)
    if reason is not None:
        data["reason"] = reason
    schedule.revision, schedule.updated_at = revision, ctx.time_ms
    schedule_record.put(ctx.state, project_no, schedule, waited_for=waited_for)
    kind = "schedule.fired" if reason is None else "schedule.skipped"
    ctx.change(revision, kind, "schedule", schedule.schedule_id, data=data)
    return accepted(Item(200, schedule.schedule_id, revision))


def _holds(schedule: Schedule, command: FireSchedule, time_ms: int) -> bool:
    """Whether the schedule still waits for this time, and whether it is there. Whatever the proposer says, the next run
    is later than this one: no time comes twice."""
    due_ms, run_ms, next_ms = command.due_ms, command.run_ms, command.next_ms
    last_ms = due_ms if run_ms is None else run_ms
    return (
        schedule.definition_revision == command.definition_revision
        and schedule.next_run_at == due_ms
        and due_ms <= last_ms <= time_ms
        and (run_ms is None or run_ms > schedule.defined_at)
        and (next_ms is None or next_ms > last_ms)
        and command.missed >= 0
    )


def trigger(ctx: Context, command: TriggerSchedule) -> Outcome:
    """TriggerSchedule."""
    project_no = ctx.require_project().number
    schedule = require(ctx, command.schedule_id)
    if command.overlap not in (None, *OVERLAPS):
        raise Refused("invalid_request", f"overlap must be one of {', '.join(OVERLAPS)}")
    revision = ctx.meta.revision + 1
    item = _start(ctx, schedule, triggered_id(schedule.schedule_id, revision), command.overlap, revision)
    if item.refusal is not None:
        raise Refused("conflict", item.refusal.detail, item.refusal.current)
    ctx.take_revision()
    schedule.last_run_at = ctx.time_ms
    schedule.revision, schedule.updated_at = revision, ctx.time_ms
    waited_for = schedule_record.due_key(project_no, schedule)
    schedule_record.put(ctx.state, project_no, schedule, waited_for=waited_for)
    data = {"task_id": item.resource_id, "due_at": ctx.time_ms, "missed": 0, "next_run_at": schedule.next_run_at}
    ctx.change(revision, "schedule.fired", "schedule", schedule.schedule_id, data={**data, "triggered": True})
    return accepted(item)


def _start(ctx: Context, schedule: Schedule, task_id: str, overlap: str | None, revision: int) -> Item:
    """Make the task of a run, or say in the item's refusal why not. The schedule's counts are changed, not written."""
    definition = schedule_record.definition_of(ctx.state, ctx.project_no, schedule)
    policy = definition.overlap if overlap is None else overlap
    before = _open_tasks(ctx, schedule)
    schedule.open_tasks = tuple(task.number for task in before)
    if before and policy == SKIP:
        return _not_started(task_id, "overlap", before[-1], f"run {before[-1].task_id} is {before[-1].status}")
    if policy == QUEUE and len(before) >= limits.SCHEDULE_OPEN_RUNS_MAX:
        return _not_started(task_id, "queue_full", before[0], f"{len(before)} runs have not ended, the most that may")
    # Taking the place of others may be refused after they were cancelled.
    mark = ctx.mark()
    new = msgspec.structs.replace(definition.task, task_id=task_id)
    if policy == QUEUE and before:
        waits_for = tuple(task.task_id for task in before)
        new = msgspec.structs.replace(new, depends_on=waits_for, on_dependency_failure=task_dependencies.RUN)
    try:
        if policy == REPLACE:
            effects = Effects(max(limits.SIDE_EFFECTS_MAX - len(before), 0), revision)
            # Latest first: those that wait for others would otherwise be let go by their end.
            for task in reversed(before):
                task_edits.cancel(ctx, task, effects)
        (item,) = task_submit.submit(ctx, (new,), path="task", revision=revision)
    except Refused as refusal:
        ctx.undo(mark)
        return Item(0, task_id, refusal=Refusal(refusal.code, refusal.detail, refusal.current))
    if item.status != 201:
        ctx.undo(mark)
        reason = "exists" if item.resource_id == task_id else "unique_key"
        return Item(0, task_id, refusal=Refusal(reason, f"task {item.resource_id} is there", {"task_id": task_id}))
    made: Task = record_of(item)
    kept = () if policy == REPLACE else schedule.open_tasks
    schedule.open_tasks = (*kept, made.number)
    schedule.last_task_id = task_id
    schedule.runs += 1
    return item


def _not_started(task_id: str, reason: str, other: Task, detail: str) -> Item:
    current = {"task_id": other.task_id, "status": str(other.status), "attempt": other.attempt}
    return Item(0, task_id, refusal=Refusal(reason, detail, current))


def _open_tasks(ctx: Context, schedule: Schedule) -> list[Task]:
    """The schedule's tasks that have not ended, oldest first."""
    tasks = (task_record.get(ctx.state, ctx.project_no, number) for number in schedule.open_tasks)
    return [task for task in tasks if task is not None and task.status not in ENDED]
