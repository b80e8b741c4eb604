"""Schedules as requests bring them, and how they become definitions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from node.api.body import Body, Count, OpenObject, absent, open_object
from node.api.ids import Id
from node.api.problem import invalid, too_large
from node.api.task_bodies import DurationMs, TaskBody, new_task
from node.api.times import TimeMs
from node.recurrence import check_cron
from node.timezones import zone
from statemachine import limits, schedule_record
from statemachine.commands import Definition, NewTask

UTC_NAME = "UTC"

Cron = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.CRON_CHARACTERS_MAX)]
Timezone = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.ID_BYTES_MAX)]
EveryMs = Annotated[int, msgspec.Meta(ge=limits.SCHEDULE_EVERY_MS_MIN, le=limits.DURATION_MS_MAX)]
Overlap = Literal["skip", "queue", "replace"]
MissedRuns = Literal["skip", "run_once", "run_all"]

MADE_BY_RUNS = {
    "task_id": "is made of the schedule's id and the time of the run",
    "depends_on": "a schedule's tasks depend on nothing; `overlap` says how its runs wait for one another",
    "not_before": "is a fixed time; give delay_ms, which counts from each run",
    "deadline": "is a fixed time; give deadline_in_ms, which counts from each run",
}
"""Fields of a task that a schedule's task cannot have, and why."""


class ScheduleBody(Body):
    """`POST /api/schedules`; `task` and one of `cron` and `every_ms` are needed."""

    task: TaskBody
    schedule_id: Id | None = None
    cron: Cron | None = None
    every_ms: EveryMs | None = None
    timezone: Timezone = UTC_NAME
    overlap: Overlap = "skip"
    missed_runs: MissedRuns = "skip"
    starting_deadline_ms: DurationMs | None = None
    starts_at: TimeMs | None = None
    ends_at: TimeMs | None = None
    paused: bool = False
    metadata: OpenObject = absent()


class SchedulePatch(Body):
    """`PATCH /api/schedules/{id}`, a merge patch: null removes, what is absent stays; `task` is replaced whole, and of
    `cron` and `every_ms` one replaces the other."""

    task: TaskBody | msgspec.UnsetType = msgspec.UNSET
    cron: Cron | msgspec.UnsetType | None = msgspec.UNSET
    every_ms: EveryMs | msgspec.UnsetType | None = msgspec.UNSET
    timezone: Timezone | msgspec.UnsetType = msgspec.UNSET
    overlap: Overlap | msgspec.UnsetType = msgspec.UNSET
    missed_runs: MissedRuns | msgspec.UnsetType = msgspec.UNSET
    starting_deadline_ms: DurationMs | msgspec.UnsetType | None = msgspec.UNSET
    starts_at: TimeMs | msgspec.UnsetType | None = msgspec.UNSET
    ends_at: TimeMs | msgspec.UnsetType | None = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    metadata: OpenObject = absent()
    if_revision: Count | None = None


class TriggerBody(Body):
    """`POST /api/schedules/{id}/trigger`: `overlap` instead of the schedule's own."""

    overlap: Overlap | None = None


PLAIN_FIELDS = (
    "cron", "every_ms", "timezone", "overlap", "missed_runs", "starting_deadline_ms", "starts_at", "ends_at", "paused",
)  # fmt: skip
"""Fields that stand in bodies and definitions alike."""


def new_definition(body: ScheduleBody) -> Definition:
    """The schedule as asked for. Raises Problem."""
    values = {name: getattr(body, name) for name in PLAIN_FIELDS}
    return checked(Definition(_task(body.task), metadata=metadata_of(body.metadata), **values))


def patched(old: Definition, patch: SchedulePatch, metadata: bytes | None) -> Definition:
    """A definition with a patch on it; `metadata` is merged already. Raises Problem."""
    values: dict[str, Any] = {
        name: getattr(patch, name) for name in PLAIN_FIELDS if getattr(patch, name) is not msgspec.UNSET
    }
    for given, other in (("cron", "every_ms"), ("every_ms", "cron")):
        if values.get(given) is not None:
            values.setdefault(other, None)
    if values.get("every_ms") is not None:
        values.setdefault("timezone", UTC_NAME)
    if not isinstance(patch.task, msgspec.UnsetType):
        values["task"] = _task(patch.task)
    if bytes(patch.metadata):
        values["metadata"] = metadata
    return checked(msgspec.structs.replace(old, **values))


def metadata_of(raw: msgspec.Raw) -> bytes | None:
    """The `metadata` of a body within its limit."""
    return open_object(raw, "metadata", "metadata_bytes_max", limits.METADATA_BYTES_MAX)


def _task(body: TaskBody) -> NewTask:
    """The task of each run; its id is still to be made."""
    for name, why in MADE_BY_RUNS.items():
        if getattr(body, name) not in (None, []):
            raise invalid(f"task.{name}", why)
    task = msgspec.structs.replace(new_task(body, "task."), task_id="")
    if schedule_record.task_bytes(task) > limits.SCHEDULE_TASK_BYTES_MAX:
        raise too_large("schedule_task_bytes_max", limits.SCHEDULE_TASK_BYTES_MAX, "task")
    return task


def checked(definition: Definition) -> Definition:
    """The same definition, if its parts fit together. Raises Problem."""
    if definition.cron is not None and definition.every_ms is not None:
        raise invalid("every_ms", "give it or cron, not both")
    if definition.cron is None and definition.every_ms is None:
        raise invalid("cron", "give it or every_ms")
    try:
        zone(definition.timezone)
    except ValueError as error:
        raise invalid("timezone", str(error)) from None
    if definition.every_ms is not None and definition.timezone != UTC_NAME:
        raise invalid("timezone", "has no meaning with every_ms")
    if definition.cron is not None:
        try:
            check_cron(definition.cron)
        except ValueError as error:
            raise invalid("cron", str(error)) from None
    ends_at = definition.ends_at
    if definition.starts_at is not None and ends_at is not None and ends_at < definition.starts_at:
        raise invalid("ends_at", "must not be before starts_at")
    return definition


def check_schedule_id(schedule_id: str) -> None:
    """Refuse ids that leave no room for the time of a run."""
    if not schedule_record.is_id(schedule_id):
        raise invalid("schedule_id", f"must be at most {limits.SCHEDULE_ID_BYTES_MAX} characters")
