"""`hive queue`: how long queues are, and what limits them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from hive_client.models import Queue

from ops.connection import Hive, connected
from ops.edge import UsageError
from ops.output import print_json, print_table

app = typer.Typer(help="Look at queues; pause, resume and limit them.", no_args_is_help=True)

QueueName = Annotated[str, typer.Argument(metavar="QUEUE")]

FIELDS = (
    "name", "project", "paused", "max_running", "rate_per_second", "max_running_per_key", "held", "counts",
    "oldest_pending_at", "oldest_pending_age_ms", "revision",
)  # fmt: skip
HEADINGS = (
    "QUEUE",
    "PENDING",
    "OLDEST",
    "HELD",
    "MAX",
    "RATE/S",
    "PER KEY",
    "PAUSED",
    "SCHEDULED",
    "BLOCKED",
    "FAILED",
)
NO_LIMIT = "none"


@app.command("list")
@connected
async def list_(
    hive: Hive,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option("--cursor")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
) -> None:
    """List queues by name: how many tasks, how old the oldest pending one is, which limits."""
    next_cursor: str | None = None
    if all_:
        found = [queue async for queue in hive.client.queues.iterate()]
    else:
        page = await hive.client.queues.list(limit=limit, cursor=cursor)
        found, next_cursor = page.items, page.next_cursor
    if hive.as_json:
        print_json({"items": [queue.raw for queue in found], "next_cursor": next_cursor})
        return
    print_table(HEADINGS, (_row(queue) for queue in found))
    if next_cursor is not None:
        typer.echo(f"more: --cursor {next_cursor} (or --all)", err=True)


def _row(queue: Queue) -> tuple[Any, ...]:
    age_ms, counts = queue.oldest_pending_age_ms, queue.counts
    return (
        queue.name,
        queue.pending,
        None if age_ms is None else f"{age_ms / 1000:.1f} s",
        queue.held,
        queue.max_running,
        queue.rate_per_second,
        queue.max_running_per_key,
        queue.paused,
        counts.get("scheduled"),
        counts.get("blocked"),
        counts.get("failed"),
    )


@app.command("get")
@connected
async def get(hive: Hive, queue: QueueName) -> None:
    """Show one queue."""
    hive.show(await hive.client.queues.get(queue), FIELDS)


@app.command("pause")
@connected
async def pause(hive: Hive, queue: QueueName) -> None:
    """Grant nothing of a queue; what runs goes on."""
    hive.show(await hive.client.queues.pause(queue), FIELDS)


@app.command("resume")
@connected
async def resume(hive: Hive, queue: QueueName) -> None:
    """Grant tasks of a paused queue again."""
    hive.show(await hive.client.queues.resume(queue), FIELDS)


@app.command("set")
@connected
async def set_(
    hive: Hive,
    queue: QueueName,
    max_running: Annotated[
        str | None, typer.Option("--max-running", metavar="N|none", help="How many tasks may be with agents.")
    ] = None,
    rate_per_second: Annotated[
        str | None, typer.Option("--rate-per-second", metavar="RATE|none", help="How many may be granted in a second.")
    ] = None,
    max_running_per_key: Annotated[
        int | None, typer.Option("--max-running-per-key", min=1, help="How many of one concurrency key at a time.")
    ] = None,
) -> None:
    """Limit a queue; `none` lifts a limit. The queue need not have a task yet."""
    values: dict[str, Any] = {}
    if max_running is not None:
        values["max_running"] = _limit(max_running, int, "--max-running")
    if rate_per_second is not None:
        values["rate_per_second"] = _limit(rate_per_second, float, "--rate-per-second")
    if max_running_per_key is not None:
        values["max_running_per_key"] = max_running_per_key
    if not values:
        raise UsageError("nothing to set: give --max-running, --rate-per-second or --max-running-per-key")
    hive.show(await hive.client.queues.update(queue, **values), FIELDS)


def _limit(text: str, kind: type[int] | type[float], option: str) -> float | None:
    if text == NO_LIMIT:
        return None
    try:
        return kind(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is neither a number nor {NO_LIMIT}") from error
