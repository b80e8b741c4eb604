"""`hive session`: sessions and their logs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from hive_client.models import Event, EventFields

from ops.connection import Hive, connected
from ops.output import cell, print_json_line, print_line
from ops.task import KeyOption, read_json

app = typer.Typer(help="Sessions and their event logs.", no_args_is_help=True)

SessionId = Annotated[str, typer.Argument(metavar="SESSION_ID")]
TypesOption = Annotated[str | None, typer.Option("--types", help="Event types, comma-separated.")]

COLUMNS = {
    "SESSION ID": "session_id",
    "STATUS": "status",
    "EVENTS": "last_seq",
    "AGENT": "agent_id",
    "USER": "user",
    "TITLE": "title",
    "UPDATED": "updated_at",
}
EVENT_COLUMNS = {"SEQ": "seq", "RECORDED": "recorded_at", "TYPE": "type", "ACTOR": "actor", "DATA": "data"}
FIELDS = (
    "session_id", "project", "status", "title", "agent_id", "user", "priority", "expires_at", "metadata", "last_seq",
    "parent", "stats", "created_at", "updated_at", "revision",
)  # fmt: skip


@app.command("create")
@connected
async def create(
    hive: Hive,
    session_id: Annotated[str | None, typer.Option("--session-id", help="[default: made by the node]")] = None,
    title: Annotated[str | None, typer.Option("--title")] = None,
    agent: Annotated[str | None, typer.Option("--agent")] = None,
    user: Annotated[str | None, typer.Option("--user")] = None,
    metadata: Annotated[str | None, typer.Option("--metadata", help="JSON, @FILE, or -.")] = None,
    key: KeyOption = None,
) -> None:
    """Open a session."""
    options: dict[str, Any] = {} if key is None else {"idempotency_key": key}
    session = await hive.client.sessions.create(
        session_id=session_id,
        title=title,
        agent_id=agent,
        user=user,
        metadata=None if metadata is None else read_json(metadata, "--metadata"),
        **options,
    )
    hive.show(session, FIELDS)


@app.command("get")
@connected
async def get(hive: Hive, session_id: SessionId) -> None:
    """Show one session with its statistics."""
    hive.show(await hive.client.sessions.get(session_id), FIELDS)


@app.command("list")
@connected
async def list_(
    hive: Hive,
    status: Annotated[str | None, typer.Option("--status", help="One or several, comma-separated.")] = None,
    agent: Annotated[str | None, typer.Option("--agent")] = None,
    user: Annotated[str | None, typer.Option("--user")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
) -> None:
    """List sessions, newest first."""
    wanted = {"status": status, "agent_id": agent, "user": user}
    filters: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if all_:
        hive.show_all([session async for session in hive.client.sessions.iterate(**filters)], None, COLUMNS)
    else:
        hive.show_page(await hive.client.sessions.list(limit=limit, cursor=cursor, **filters), COLUMNS)


@app.command("events")
@connected
async def events(
    hive: Hive,
    session_id: SessionId,
    after_seq: Annotated[int | None, typer.Option("--after-seq", min=0)] = None,
    types: TypesOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option("--cursor")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
) -> None:
    """Show a session's events in order."""
    filters: dict[str, Any] = {} if types is None else {"types": types}
    sessions = hive.client.sessions
    if all_:
        items = [event async for event in sessions.iterate_events(session_id, after_seq=after_seq, **filters)]
        hive.show_all(items, None, EVENT_COLUMNS)
    else:
        page = await sessions.events(session_id, after_seq=after_seq, limit=limit, cursor=cursor, **filters)
        hive.show_page(page, EVENT_COLUMNS)


@app.command("append")
@connected
async def append(
    hive: Hive,
    session_id: SessionId,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="For example custom.note.")],
    data: Annotated[str | None, typer.Option("--data", help="JSON, @FILE, or -.")] = None,
    actor: Annotated[str | None, typer.Option("--actor")] = None,
    expected_seq: Annotated[int | None, typer.Option("--expected-seq", min=0, help="The last seq you saw.")] = None,
    key: KeyOption = None,
) -> None:
    """Append one event."""
    event = EventFields(type=type_)
    if data is not None:
        event["data"] = read_json(data, "--data")
    if actor is not None:
        event["actor"] = actor
    options: dict[str, Any] = {} if key is None else {"idempotency_key": key}
    if expected_seq is not None:
        options["expected_seq"] = expected_seq
    hive.show(
        await hive.client.sessions.append(session_id, **event, **options),
        ("first_seq", "last_seq", "revision"),
    )


@app.command("tail")
@connected
async def tail(
    hive: Hive,
    session_id: SessionId,
    after_seq: Annotated[int, typer.Option("--after-seq", min=0)] = 0,
    types: TypesOption = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many events.")] = None,
) -> None:
    """Print a session's events and then each new one, until interrupted."""
    filters: dict[str, Any] = {} if types is None else {"types": types}
    seen = 0
    async for event in hive.client.sessions.tail(session_id, after_seq=after_seq, **filters):
        _print_event(hive, event)
        seen += 1
        if seen == count:
            return


def _print_event(hive: Hive, event: Event) -> None:
    if hive.as_json:
        print_json_line(event.raw)
    else:
        recorded = cell(event.recorded_at).plain
        print_line(f"{event.seq:>6}  {recorded}  {event.type}  {event.actor or '-'}  {cell(event.data).plain}")
