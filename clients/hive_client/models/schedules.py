"""Schedules as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict

from hive_client.models.record import Record
from hive_client.models.tasks import TaskFields

Overlap = Literal["skip", "queue", "replace"]
MissedRuns = Literal["skip", "run_once", "run_all"]


class ScheduleFields(TypedDict, total=False):
    """A new schedule: ``task`` and one of ``cron`` (five fields, in ``timezone``) and ``every_ms`` are needed."""

    schedule_id: str
    cron: str
    every_ms: int
    timezone: str
    task: TaskFields
    overlap: Overlap
    missed_runs: MissedRuns
    starting_deadline_ms: int
    starts_at: str
    ends_at: str
    paused: bool
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SkippedRun(Record):
    """A run that was not made, and why."""

    due_at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Schedule(Record):
    """A schedule. ``upcoming`` are its next due times; lists leave them out."""

    schedule_id: str = ""
    project: str = "default"
    cron: str | None = None
    every_ms: int | None = None
    timezone: str = "UTC"
    task: Any = None
    overlap: str = "skip"
    missed_runs: str = "skip"
    starting_deadline_ms: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    paused: bool = False
    metadata: Any = None
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    last_task_id: str | None = None
    last_skipped: SkippedRun | None = None
    runs: int = 0
    skipped: int = 0
    missed: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    revision: int = 0
    created_revision: int = 0
    definition_revision: int = 0
    upcoming: list[datetime] = field(default_factory=list)
