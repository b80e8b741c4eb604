"""Routes of schedules: tasks that are made again and again, by the calendar or at intervals."""

from __future__ import annotations

from typing import Any

from cluster.replica import View
from node.api import ids
from node.api.body import merge_patch
from node.api.pages import Page, page, position_of
from node.api.problem import Problem, too_large
from node.api.query import ListQuery, ReadQuery, Text, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.schedule_bodies import (
    ScheduleBody,
    SchedulePatch,
    TriggerBody,
    check_schedule_id,
    metadata_of,
    new_definition,
    patched,
)
from node.api.schedule_views import DeletedSchedule, ScheduleView, find_view, schedule_view, whole_view
from node.api.task_views import TaskView, shown_item
from node.api.times import TimeMs
from node.api.writes import decide, propose, refusal_of, replay_headers, write
from node.recurrence import first_run_ms
from statemachine import limits, projects, schedule_record
from statemachine.commands import CreateSchedule, Definition, DeleteSchedule, TriggerSchedule, UpdateSchedule
from statemachine.outcome import Item, Outcome
from statemachine.schedule_record import Schedule, ScheduleFilter

MERGE_TRIES_MAX = 8
NO_REVISION = 0
"""The revision of a schedule that is not there: no schedule ever has it."""

_KIND = "schedules"
_PAUSE, _RESUME = SchedulePatch(paused=True), SchedulePatch(paused=False)


class CreateQuery(WriteQuery, kw_only=True):
    """`dry_run` checks the schedule and shows when it would run, and makes nothing."""

    dry_run: bool = False


class ListSchedules(ListQuery, kw_only=True):
    """Filters of `GET /api/schedules`; `queue` and `type` are those of the task."""

    paused: bool | None = None
    queue: tuple[Text, ...] = ()
    type: tuple[Text, ...] = ()
    ids: tuple[ids.Id, ...] = ()
    updated_since: TimeMs | None = None


def _shown(request: Request[Any, Any], view: View, item: Item) -> ScheduleView | None:
    project = projects.find(view, request.project)
    return None if project is None else find_view(view, project.number, project.name, item.resource_id)


async def create_schedule(request: Request[CreateQuery, ScheduleBody]) -> Reply:
    """Begin a schedule."""
    body = request.body
    schedule_id = ids.new_id() if body.schedule_id is None else ids.check("schedule_id", body.schedule_id)
    check_schedule_id(schedule_id)
    definition, now_ms = new_definition(body), request.api.replica.now_ms()
    next_run_at = first_run_ms(definition, now_ms)
    if request.query.dry_run:
        schedule = Schedule(schedule_id, 0, b"", now_ms, 0, now_ms, 0, 0, now_ms, next_run_at)
        return json_reply(whole_view(request.project, schedule, definition))
    command = CreateSchedule(schedule_id, definition, next_run_at)
    return await write(request, command, lambda view, item: _shown(request, view, item), "/api/schedules/")


async def list_schedules(request: Request[ListSchedules, Any]) -> Reply:
    """Schedules, newest first."""
    query = request.query
    wanted = ScheduleFilter(query.paused, query.queue, query.type, query.ids, query.updated_since)
    after = position_of(request, _KIND)
    with request.view() as view:
        project = request.require_project(view)
        rows = schedule_record.scan(view, project.number, wanted, after=after, ascending=query.order == "asc")
        return page(request, _KIND, rows, lambda row: schedule_view(project.name, *row), ScheduleView)


async def get_schedule(request: Request[ReadQuery, Any]) -> Reply:
    """One schedule, with the times of its next runs."""
    schedule_id = request.parameters["schedule_id"]
    with request.view() as view:
        shown = find_view(view, request.project_number(view), request.project, schedule_id)
    if shown is None:
        raise Problem("not_found", f"schedule {schedule_id!r} is unknown here at revision {request.revision}")
    return json_reply(shown)


async def patch_schedule(request: Request[WriteQuery, SchedulePatch]) -> Reply:
    """Change a schedule."""
    return await _change(request, request.body)


async def pause_schedule(request: Request[WriteQuery, Any]) -> Reply:
    """No runs until it is resumed."""
    return await _change(request, _PAUSE)


async def resume_schedule(request: Request[WriteQuery, Any]) -> Reply:
    """Runs from now on; what was due meanwhile is not made up for."""
    return await _change(request, _RESUME)


async def _change(request: Request[WriteQuery, Any], patch: SchedulePatch) -> Reply:
    """Merge here, write on condition that nobody wrote meanwhile, and begin again if somebody did.

    Every try has a place of its own under the Idempotency-Key: a repeat walks through the same refusals to the same
    end.
    """
    schedule_id = request.parameters["schedule_id"]
    for attempt in range(MERGE_TRIES_MAX):
        command = await _update(request, schedule_id, patch)
        outcome = (await propose(request, command, first_position=attempt))[0]
        if not _was_overtaken(outcome):
            return _changed(request, outcome)
    raise Problem("conflict", f"schedule {schedule_id!r} is changed too often; try again", revision=request.revision)


async def _update(request: Request[Any, Any], schedule_id: str, patch: SchedulePatch) -> UpdateSchedule:
    seen = _here(request, schedule_id)
    if seen is None:
        # This node may be behind: ask the leader before saying that it is not there.
        await request.api.replica.read_barrier(request.seconds_left())
        seen = _here(request, schedule_id)
    if seen is None:
        return UpdateSchedule(schedule_id, None, None, NO_REVISION, patch.if_revision)
    schedule, old = seen
    definition = patched(old, patch, _merged(old, patch))
    next_run_at = first_run_ms(definition, request.api.replica.now_ms())
    return UpdateSchedule(schedule_id, definition, next_run_at, schedule.definition_revision, patch.if_revision)


def _here(request: Request[Any, Any], schedule_id: str) -> tuple[Schedule, Definition] | None:
    with request.view() as view:
        project = projects.find(view, request.project)
        schedule = None if project is None else schedule_record.find(view, project.number, schedule_id)
        if project is None or schedule is None:
            return None
        return schedule, schedule_record.definition_of(view, project.number, schedule)


def _merged(old: Definition, patch: SchedulePatch) -> bytes | None:
    metadata = metadata_of(patch.metadata)
    if metadata is None:
        return None
    merged = merge_patch(old.metadata, metadata)
    if merged is not None and len(merged) > limits.METADATA_BYTES_MAX:
        raise too_large("metadata_bytes_max", limits.METADATA_BYTES_MAX, "metadata")
    return merged


def _was_overtaken(outcome: Outcome) -> bool:
    """Whether somebody else wrote first; the same for the first run and for its repeats."""
    refusal = outcome.refusal
    return refusal is not None and refusal.current is not None and "base_revision" in refusal.current


def _changed(request: Request[Any, Any], outcome: Outcome) -> Reply:
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    item = outcome.items[0]
    with request.view() as view:
        body = _shown(request, view, item)
    if body is None:
        return json_reply(DeletedSchedule(item.resource_id, item.revision), 200, replay_headers(outcome))
    if outcome.replayed:
        body.revision = item.revision
    return json_reply(body, 200, replay_headers(outcome))


async def delete_schedule(request: Request[WriteQuery, Any]) -> Reply:
    """Remove a schedule; the tasks that it made stay."""
    outcome = await decide(request, DeleteSchedule(request.parameters["schedule_id"]))
    item = outcome.items[0]
    return json_reply(DeletedSchedule(item.resource_id, item.revision), 200, replay_headers(outcome))


async def trigger_schedule(request: Request[WriteQuery, TriggerBody]) -> Reply:
    """A run now, whatever the schedule says: the task."""
    command = TriggerSchedule(request.parameters["schedule_id"], request.body.overlap)
    return await write(request, command, lambda view, item: shown_item(request, view, item), "/api/tasks/")


_ONE = "/api/schedules/{schedule_id}"

ROUTES = (
    Route(
        "POST", "/api/schedules", create_schedule, "Begin a schedule; `dry_run` only shows its runs",
        "schedules:write", query=CreateQuery, body=ScheduleBody, reply=ScheduleView, statuses=(201, 200),
    ),
    Route(
        "GET", "/api/schedules", list_schedules, "List schedules", "schedules:read",
        query=ListSchedules, reply=Page[ScheduleView],
    ),
    Route("GET", _ONE, get_schedule, "One schedule", "schedules:read", query=ReadQuery, reply=ScheduleView),
    Route(
        "PATCH", _ONE, patch_schedule, "Change a schedule (merge patch)", "schedules:write",
        query=WriteQuery, body=SchedulePatch, reply=ScheduleView,
    ),
    Route(
        "DELETE", _ONE, delete_schedule, "Remove a schedule; its tasks stay", "schedules:write",
        query=WriteQuery, reply=DeletedSchedule,
    ),
    Route(
        "POST", _ONE + "/pause", pause_schedule, "No runs until it is resumed", "schedules:write",
        query=WriteQuery, reply=ScheduleView,
    ),
    Route(
        "POST", _ONE + "/resume", resume_schedule, "Runs from now on", "schedules:write",
        query=WriteQuery, reply=ScheduleView,
    ),
    Route(
        "POST", _ONE + "/trigger", trigger_schedule, "A run now", "schedules:write",
        query=WriteQuery, body=TriggerBody, reply=TaskView, statuses=(201,),
    ),
)  # fmt: skip
