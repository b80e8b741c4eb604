"""Schedules as the API shows them."""

from __future__ import annotations

from itertools import islice

import msgspec

from cluster.replica import View
from node.api.reply import raw
from node.api.schedule_bodies import MissedRuns, Overlap
from node.api.task_bodies import RATIO
from node.api.task_views import BackoffView, LockView, RequirementView, lock_views
from node.api.times import text, text_or_none
from node.recurrence import recurrence_of
from statemachine import schedule_record
from statemachine.commands import Definition, NewTask
from statemachine.schedule_record import Schedule

UPCOMING = 5
"""How many runs to come a schedule is shown with."""


class ScheduledTask(msgspec.Struct):
    """The task that each run makes: the fields of `POST /api/tasks`."""

    queue: str
    type: str
    title: str | None
    description: str | None
    payload: msgspec.Raw
    priority: int
    requires: list[RequirementView]
    labels: msgspec.Raw
    on_dependency_failure: str
    group_id: str | None
    delay_ms: int | None
    deadline_in_ms: int | None
    expires_unstarted_ms: int | None
    run_timeout_ms: int | None
    lease_ms: int
    max_attempts: int
    backoff: BackoffView
    unique_key: str | None
    concurrency_key: str | None
    locks: list[LockView]
    session_id: str | None
    metadata: msgspec.Raw


class SkippedRun(msgspec.Struct):
    """The last run that was not made, and why: overlap, queue_full, missed, unique_key, or exists."""

    due_at: str
    reason: str


class ScheduleView(msgspec.Struct, kw_only=True):
    """A schedule. `upcoming` stands where a single one is shown."""

    schedule_id: str
    project: str
    cron: str | None
    every_ms: int | None
    timezone: str
    task: ScheduledTask
    overlap: Overlap
    missed_runs: MissedRuns
    starting_deadline_ms: int | None
    starts_at: str | None
    ends_at: str | None
    paused: bool
    metadata: msgspec.Raw
    next_run_at: str | None
    last_run_at: str | None
    last_task_id: str | None
    last_skipped: SkippedRun | None
    runs: int
    skipped: int
    missed: int
    created_at: str
    updated_at: str
    revision: int
    created_revision: int
    definition_revision: int
    upcoming: list[str] | msgspec.UnsetType = msgspec.UNSET


class DeletedSchedule(msgspec.Struct):
    """What a delete answers."""

    schedule_id: str
    revision: int
    deleted: bool = True


def schedule_view(project: str, schedule: Schedule, definition: Definition, *, full: bool = True) -> ScheduleView:
    """A schedule as shown; without `full` payload and metadata are left out."""
    skip = schedule.last_skip
    return ScheduleView(
        schedule_id=schedule.schedule_id,
        project=project,
        cron=definition.cron,
        every_ms=definition.every_ms,
        timezone=definition.timezone,
        task=_task(definition.task, full=full),
        overlap=definition.overlap,  # type: ignore[arg-type]  # the record keeps the same words as plain text
        missed_runs=definition.missed_runs,  # type: ignore[arg-type]  # as above
        starting_deadline_ms=definition.starting_deadline_ms,
        starts_at=text_or_none(definition.starts_at),
        ends_at=text_or_none(definition.ends_at),
        paused=definition.paused,
        metadata=raw(definition.metadata if full else None),
        next_run_at=text_or_none(schedule.next_run_at),
        last_run_at=text_or_none(schedule.last_run_at),
        last_task_id=schedule.last_task_id,
        last_skipped=None if skip is None else SkippedRun(text(skip.due_at), skip.reason),
        runs=schedule.runs,
        skipped=schedule.skipped,
        missed=schedule.missed,
        created_at=text(schedule.created_at),
        updated_at=text(schedule.updated_at),
        revision=schedule.revision,
        created_revision=schedule.created_revision,
        definition_revision=schedule.definition_revision,
    )


def whole_view(project: str, schedule: Schedule, definition: Definition) -> ScheduleView:
    """A schedule with the times of its next runs."""
    shown = schedule_view(project, schedule, definition)
    shown.upcoming = upcoming(definition, schedule.next_run_at)
    return shown


def find_view(view: View, project_no: int, project: str, schedule_id: str) -> ScheduleView | None:
    """The schedule of that id as shown."""
    schedule = schedule_record.find(view, project_no, schedule_id)
    if schedule is None:
        return None
    return whole_view(project, schedule, schedule_record.definition_of(view, project_no, schedule))


def upcoming(definition: Definition, next_run_ms: int | None) -> list[str]:
    """The next due times, from the one that is waited for on."""
    if next_run_ms is None:
        return []
    try:
        later = list(islice(recurrence_of(definition).after(next_run_ms), UPCOMING - 1))
    except ValueError:
        later = []  # a newer node has accepted what this version does not know
    return [text(at) for at in (next_run_ms, *later)]


def _task(task: NewTask, *, full: bool) -> ScheduledTask:
    backoff = task.backoff
    return ScheduledTask(
        queue=task.queue,
        type=task.type,
        title=task.title,
        description=task.description if full else None,
        payload=raw(task.payload if full else None),
        priority=task.priority,
        requires=[RequirementView(need.name, need.min_proficiency / RATIO) for need in task.requires],
        labels=msgspec.Raw(b"{}" if task.labels is None else task.labels),
        on_dependency_failure=task.on_dependency_failure,
        group_id=task.group_id,
        delay_ms=task.delay_ms,
        deadline_in_ms=task.deadline_in_ms,
        expires_unstarted_ms=task.expires_unstarted_ms,
        run_timeout_ms=task.run_timeout_ms,
        lease_ms=task.lease_ms,
        max_attempts=task.max_attempts,
        backoff=BackoffView(backoff.initial_ms, backoff.factor / RATIO, backoff.max_ms, backoff.jitter / RATIO),
        unique_key=task.unique_key,
        concurrency_key=task.concurrency_key,
        locks=lock_views(task.locks),
        session_id=task.session_id,
        metadata=raw(task.metadata if full else None),
    )
