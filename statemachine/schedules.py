"""Schedules: tasks that are made again and again, by the calendar or at intervals. Their runs: `schedule_runs`.

WHEN a run is due is reckoned outside, where time zones are known: by the edge for the first run, by the leader for each
next one. The record says which time it waits for, and every command says which one it means: so each due time is dealt
with once, however often and by however many leaders it is proposed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine import keys, limits, names, schedule_record, schedule_runs, task_record
from statemachine.commands import (
    Command,
    CreateSchedule,
    Definition,
    DeleteSchedule,
    FireSchedule,
    TriggerSchedule,
    UpdateSchedule,
)
from statemachine.context import Context
from statemachine.outcome import Item, Made, Outcome, Refused, accepted
from statemachine.schedule_record import MISSED_RUNS, OVERLAPS, Schedule

TIMES = ("cron", "every_ms", "timezone", "starts_at", "ends_at", "paused")
"""The fields that decide when a run is due."""


def _create(ctx: Context, command: CreateSchedule) -> Outcome:
    project = ctx.require_project()
    schedule_id, definition = command.schedule_id, command.definition
    _check_id(schedule_id)
    _check(definition)
    content = schedule_record.content_of(definition)
    existing = schedule_record.find(ctx.state, project.number, schedule_id)
    if existing is not None:
        if existing.content != content:
            current = schedule_runs.current_of(existing)
            raise Refused("exists", f"schedule {schedule_id!r} exists with other content", current)
        return Outcome(ctx.meta.revision, (Item(200, schedule_id, existing.revision),))
    if project.schedules >= limits.SCHEDULES_MAX:
        raise Refused("queue_full", f"this project has {limits.SCHEDULES_MAX} schedules, the most it may have")
    revision = ctx.take_revision()
    schedule = Schedule(
        schedule_id,
        keys.order_number(revision, 0),
        content,
        created_at=ctx.time_ms,
        created_revision=revision,
        updated_at=ctx.time_ms,
        revision=revision,
        definition_revision=revision,
        defined_at=ctx.time_ms,
        next_run_at=None if definition.paused else command.next_run_at,
    )
    schedule_record.put_new(ctx.state, project.number, schedule, definition)
    project.schedules += 1
    ctx.change(revision, "schedule.created", "schedule", schedule_id)
    return accepted(Made(201, schedule_id, revision, record=schedule))


def _check_id(schedule_id: str) -> None:
    wrong = names.check_id(schedule_id)
    if wrong is None and not schedule_record.is_id(schedule_id):
        wrong = f"must be at most {limits.SCHEDULE_ID_BYTES_MAX} characters"
    if wrong is not None:
        raise Refused("invalid_request", f"schedule_id {wrong}")


def _check(definition: Definition) -> None:
    """What the edge has checked already, as far as the state could come to harm."""
    task, every_ms = definition.task, definition.every_ms
    task_names = [text for text in (task.queue, task.group_id, task.unique_key) if text is not None]
    rules = {
        "one of cron and every_ms must be given": (definition.cron is None) != (every_ms is None),
        "every_ms is too short": every_ms is None or every_ms >= limits.SCHEDULE_EVERY_MS_MIN,
        f"overlap must be one of {', '.join(OVERLAPS)}": definition.overlap in OVERLAPS,
        f"missed_runs must be one of {', '.join(MISSED_RUNS)}": definition.missed_runs in MISSED_RUNS,
        "task.task_id is made by each run": not task.task_id,
        "task.depends_on is for the schedule to say": not task.depends_on,
        "queue, group_id and unique_key of the task must be names": all(map(task_record.is_name, task_names)),
        "the task is too large": schedule_record.task_bytes(task) <= limits.SCHEDULE_TASK_BYTES_MAX,
    }
    for rule, holds in rules.items():
        if not holds:
            raise Refused("invalid_request", rule)


def _update(ctx: Context, command: UpdateSchedule) -> Outcome:
    project_no = ctx.require_project().number
    schedule = schedule_runs.require(ctx, command.schedule_id)
    _check_current(schedule, command)
    definition = command.definition
    if definition is None:
        raise AssertionError("a definition was seen, and none is given")
    old = schedule_record.definition_of(ctx.state, project_no, schedule)
    if definition == old:
        return Outcome(ctx.meta.revision, (Made(200, schedule.schedule_id, schedule.revision, record=schedule),))
    _check(definition)
    waited_for = schedule_record.due_key(project_no, schedule)
    fields = [name for name in Definition.__struct_fields__ if getattr(definition, name) != getattr(old, name)]
    revision = ctx.take_revision()
    schedule.revision = schedule.definition_revision = revision
    schedule.updated_at = ctx.time_ms
    if any(name in TIMES for name in fields):
        schedule.defined_at = ctx.time_ms
        schedule.next_run_at = None if definition.paused else command.next_run_at
    schedule_record.put(ctx.state, project_no, schedule, waited_for=waited_for)
    schedule_record.put_definition(ctx.state, project_no, schedule, definition)
    ctx.change(revision, "schedule.updated", "schedule", schedule.schedule_id, data={"fields": fields})
    return accepted(Made(200, schedule.schedule_id, revision, record=schedule))


def _check_current(schedule: Schedule, command: UpdateSchedule) -> None:
    """Runs change a schedule's revision too; what counts is whether its user saw the definition."""
    wanted, current = command.if_revision, schedule_runs.current_of(schedule)
    if wanted is not None and not schedule.definition_revision <= wanted <= schedule.revision:
        detail = f"the schedule was last changed by revision {schedule.definition_revision}"
        raise Refused("conflict", detail, current)
    if command.base_revision != schedule.definition_revision:
        current["base_revision"] = command.base_revision
        raise Refused("conflict", "the schedule was changed meanwhile", current)


def _delete(ctx: Context, command: DeleteSchedule) -> Outcome:
    project = ctx.require_project()
    schedule = schedule_runs.require(ctx, command.schedule_id)
    revision = ctx.take_revision()
    schedule_record.remove(ctx.state, project.number, schedule)
    project.schedules -= 1
    ctx.change(revision, "schedule.deleted", "schedule", schedule.schedule_id)
    return accepted(Item(200, schedule.schedule_id, revision))


HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {
    CreateSchedule: _create,
    UpdateSchedule: _update,
    DeleteSchedule: _delete,
    TriggerSchedule: schedule_runs.trigger,
    FireSchedule: schedule_runs.fire,
}
