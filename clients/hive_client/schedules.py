"""``client.schedules``: tasks that are made again and again, by the calendar or at intervals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Literal, Unpack, cast

from hive_client.calls import Calls, segment, without_none
from hive_client.models.cluster import Document
from hive_client.models.record import Page
from hive_client.models.schedules import Overlap, Schedule, ScheduleFields
from hive_client.models.tasks import Task
from hive_client.options import ReadOptions, WriteOptions
from hive_client.paging import every_item
from hive_client.tasks import split_filters

_OPTION_NAMES = frozenset(WriteOptions.__annotations__)


class ScheduleOptions(ScheduleFields, WriteOptions, total=False):
    """A new schedule's fields and the options of the write, together as keywords."""


class ScheduleFilters(ReadOptions, total=False):
    """What `list` and `iterate` narrow schedules by; ``queue`` and ``type`` are those of their tasks."""

    paused: bool
    queue: str | Iterable[str]
    type: str | Iterable[str]
    ids: Iterable[str]
    updated_since: str
    order: Literal["asc", "desc"]
    fields: Iterable[str]


class Schedules:
    """The schedules of one project: `client.schedules`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, **schedule: Unpack[ScheduleOptions]) -> Schedule:
        """Begin a schedule. The same ``schedule_id`` and content again returns it; other content raises ``Exists``."""
        body, options = _apart(schedule)
        return Schedule.from_reply(await self._calls.write("POST", "/api/schedules", body, options))

    async def preview(self, **schedule: Unpack[ScheduleOptions]) -> Schedule:
        """The schedule as it would be, with its next runs in ``upcoming``; nothing is made. Raises as `create` does."""
        body, options = _apart(schedule)
        query = {"dry_run": True}
        return Schedule.from_reply(await self._calls.write("POST", "/api/schedules", body, options, query=query))

    async def get(self, schedule_id: str, **options: Unpack[ReadOptions]) -> Schedule:
        """One schedule, with its next runs."""
        return Schedule.from_reply(await self._calls.read(_path(schedule_id), None, options))

    async def list(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[ScheduleFilters]
    ) -> Page[Schedule]:
        """One page, newest first."""
        query, options = split_filters(filters)
        query |= {"limit": limit, "cursor": cursor}
        return Page.from_reply(await self._calls.read("/api/schedules", query, options), Schedule)

    def iterate(self, *, page_size: int = 500, **filters: Unpack[ScheduleFilters]) -> AsyncIterator[Schedule]:
        """Every schedule, page by page."""
        return every_item(lambda cursor: self.list(limit=page_size, cursor=cursor, **filters))

    async def update(
        self,
        schedule_id: str,
        changes: Mapping[str, Any],
        *,
        if_revision: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Schedule:
        """Change fields (merge patch: None removes; ``task`` is replaced whole). With ``if_revision`` only if nobody
        changed the schedule since; its runs do not count.
        """
        body = {**changes, **without_none(if_revision=if_revision)}
        return Schedule.from_reply(await self._calls.write("PATCH", _path(schedule_id), body, options))

    async def pause(self, schedule_id: str, **options: Unpack[WriteOptions]) -> Schedule:
        """No runs until it is resumed."""
        return Schedule.from_reply(await self._calls.write("POST", f"{_path(schedule_id)}/pause", {}, options))

    async def resume(self, schedule_id: str, **options: Unpack[WriteOptions]) -> Schedule:
        """Runs from now on; what was due while it was paused is not made up for."""
        return Schedule.from_reply(await self._calls.write("POST", f"{_path(schedule_id)}/resume", {}, options))

    async def trigger(
        self, schedule_id: str, *, overlap: Overlap | None = None, **options: Unpack[WriteOptions]
    ) -> Task:
        """A run now: its task. Raises ``Conflict`` where the last run has not ended and ``overlap`` (the schedule's own
        unless given) says to skip.
        """
        body = without_none(overlap=overlap)
        return Task.from_reply(await self._calls.write("POST", f"{_path(schedule_id)}/trigger", body, options))

    async def delete(self, schedule_id: str, **options: Unpack[WriteOptions]) -> Document:
        """Remove a schedule; the tasks that it made stay."""
        return Document.from_reply(await self._calls.write("DELETE", _path(schedule_id), None, options))


def _path(schedule_id: str) -> str:
    return f"/api/schedules/{segment(schedule_id)}"


def _apart(schedule: ScheduleOptions) -> tuple[dict[str, Any], WriteOptions]:
    body = {name: value for name, value in schedule.items() if name not in _OPTION_NAMES}
    options = {name: value for name, value in schedule.items() if name in _OPTION_NAMES}
    return body, cast(WriteOptions, options)
