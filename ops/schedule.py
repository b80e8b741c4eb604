"""`hive schedule`: tasks that are made again and again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from hive_client.models import Schedule

from ops.connection import Hive, connected
from ops.edge import UsageError
from ops.output import print_fields
from ops.task import FIELDS as TASK_FIELDS
from ops.task import KeyOption, read_json

app = typer.Typer(help="Tasks that are made again and again.", no_args_is_help=True)

ScheduleId = Annotated[str, typer.Argument(metavar="SCHEDULE_ID")]
Overlap = Literal["skip", "queue", "replace"]

COLUMNS = {
    "SCHEDULE ID": "schedule_id",
    "CRON": "cron",
    "EVERY MS": "every_ms",
    "TIME ZONE": "timezone",
    "PAUSED": "paused",
    "NEXT RUN": "next_run_at",
    "LAST RUN": "last_run_at",
    "RUNS": "runs",
    "SKIPPED": "skipped",
    "MISSED": "missed",
}
FIELDS = (
    "schedule_id", "project", "cron", "every_ms", "timezone", "task", "overlap", "missed_runs", "starting_deadline_ms",
    "starts_at", "ends_at", "paused", "metadata", "next_run_at", "last_run_at", "last_task_id", "last_skipped", "runs",
    "skipped", "missed", "created_at", "updated_at", "revision",
)  # fmt: skip


def _show(hive: Hive, schedule: Schedule) -> None:
    """One schedule; of its task what was said, and below it when it runs next."""
    hive.show(schedule, FIELDS)
    if not hive.as_json:
        print_fields({f"run {place}": at for place, at in enumerate(schedule.raw.get("upcoming") or (), 1)})


@app.command("create")
@connected
async def create(
    hive: Hive,
    schedule_id: Annotated[str | None, typer.Option("--schedule-id", help="[default: made by the node]")] = None,
    cron: Annotated[
        str | None, typer.Option("--cron", help="minute hour day month weekday, such as '0 2 * * *'.")
    ] = None,
    every_ms: Annotated[int | None, typer.Option("--every-ms", min=1000)] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="For --cron, such as Europe/Berlin.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="The whole task: JSON, @FILE, or -.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Of the task, as are the next four.")] = None,
    title: Annotated[str | None, typer.Option("--title")] = None,
    payload: Annotated[str | None, typer.Option("--payload", help="JSON, @FILE, or -.")] = None,
    queue: Annotated[str | None, typer.Option("--queue")] = None,
    priority: Annotated[str | None, typer.Option("--priority", help="0-9, 9 first; or high, medium, low.")] = None,
    overlap: Annotated[Overlap | None, typer.Option("--overlap", help="When the last run has not ended.")] = None,
    missed_runs: Annotated[Literal["skip", "run_once", "run_all"] | None, typer.Option("--missed-runs")] = None,
    starting_deadline_ms: Annotated[int | None, typer.Option("--starting-deadline-ms", min=1)] = None,
    starts_at: Annotated[str | None, typer.Option("--starts-at", help="RFC 3339.")] = None,
    ends_at: Annotated[str | None, typer.Option("--ends-at", help="RFC 3339.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Begin paused.")] = False,
    metadata: Annotated[str | None, typer.Option("--metadata", help="JSON, @FILE, or -.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check it, and show when it would run.")] = False,
    key: KeyOption = None,
) -> None:
    """Begin a schedule, and show its next runs."""
    template = {} if task is None else read_json(task, "--task")
    if not isinstance(template, dict):
        raise UsageError('--task must be a JSON object, for example \'{"type": "report"}\'')
    told: dict[str, Any] = {
        "type": type_,
        "title": title,
        "payload": None if payload is None else read_json(payload, "--payload"),
        "queue": queue,
        "priority": int(priority) if priority is not None and priority.lstrip("-").isdecimal() else priority,
    }
    wanted: dict[str, Any] = {
        "schedule_id": schedule_id,
        "cron": cron,
        "every_ms": every_ms,
        "timezone": timezone,
        "task": {**template, **{name: value for name, value in told.items() if value is not None}},
        "overlap": overlap,
        "missed_runs": missed_runs,
        "starting_deadline_ms": starting_deadline_ms,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "paused": paused or None,
        "metadata": None if metadata is None else read_json(metadata, "--metadata"),
        "idempotency_key": key,
    }
    fields: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    schedules = hive.client.schedules
    _show(hive, await (schedules.preview(**fields) if dry_run else schedules.create(**fields)))


@app.command("list")
@connected
async def list_(
    hive: Hive,
    paused: Annotated[bool | None, typer.Option("--paused/--active", help="[default: both]")] = None,
    queue: Annotated[str | None, typer.Option("--queue")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
) -> None:
    """List schedules, newest first."""
    filters: dict[str, Any] = {n: v for n, v in {"paused": paused, "queue": queue}.items() if v is not None}
    if all_:
        hive.show_all([schedule async for schedule in hive.client.schedules.iterate(**filters)], None, COLUMNS)
    else:
        hive.show_page(await hive.client.schedules.list(limit=limit, cursor=cursor, **filters), COLUMNS)


@app.command("show")
@connected
async def show(hive: Hive, schedule_id: ScheduleId) -> None:
    """Show one schedule with its next runs."""
    _show(hive, await hive.client.schedules.get(schedule_id))


@app.command("pause")
@connected
async def pause(hive: Hive, schedule_id: ScheduleId) -> None:
    """No runs until it is resumed."""
    _show(hive, await hive.client.schedules.pause(schedule_id))


@app.command("resume")
@connected
async def resume(hive: Hive, schedule_id: ScheduleId) -> None:
    """Runs from now on; what was due meanwhile is not made up for."""
    _show(hive, await hive.client.schedules.resume(schedule_id))


@app.command("trigger")
@connected
async def trigger(
    hive: Hive,
    schedule_id: ScheduleId,
    overlap: Annotated[Overlap | None, typer.Option("--overlap", help="[default: the schedule's own]")] = None,
    key: KeyOption = None,
) -> None:
    """Run it now, and show the task."""
    options: dict[str, Any] = {} if key is None else {"idempotency_key": key}
    hive.show(await hive.client.schedules.trigger(schedule_id, overlap=overlap, **options), TASK_FIELDS)


@app.command("delete")
@connected
async def delete(hive: Hive, schedule_id: ScheduleId) -> None:
    """Remove a schedule; the tasks that it made stay."""
    hive.show(await hive.client.schedules.delete(schedule_id), ("schedule_id", "revision", "deleted"))
