"""`hive watch`: every change as it happens."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from hive_client import ChangeMessage

from ops.connection import Hive, connected
from ops.output import cell, print_json_line, print_line


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("watch")(watch)


@connected
async def watch(
    hive: Hive,
    topics: Annotated[str | None, typer.Option("--topics", help="For example tasks,agent.a1. [default: all]")] = None,
    from_revision: Annotated[int | None, typer.Option("--from-revision", min=1, help="[default: from now]")] = None,
    data: Annotated[Literal["none", "summary", "full"], typer.Option("--data")] = "summary",
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many revisions.")] = None,
) -> None:
    """Print every change as it happens, without gap or repeat, until interrupted."""
    seen = 0
    stream = hive.client.changes.watch(from_revision=from_revision, topics=topics, data=data)
    async with stream:
        async for message in stream:
            _print_message(hive, message)
            seen += 1
            if seen == count:
                return


def _print_message(hive: Hive, message: ChangeMessage) -> None:
    if hive.as_json:
        print_json_line(message.raw)
        return
    for change in message.changes:
        time = cell(message.timestamp).plain
        line = f"{message.revision:>8}  {time}  {change.type}  {change.resource}/{change.resource_id}"
        print_line(f"{line}  {cell(change.data).plain}" if change.data else line)
