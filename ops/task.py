"""`hive task`: submit tasks, look at them, steer them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from hive_client import Task

from ops.connection import Hive, connected
from ops.edge import CommandError, UsageError
from ops.output import print_fields, print_json, print_table

app = typer.Typer(help="Submit tasks, look at them, steer them.", no_args_is_help=True)

TaskId = Annotated[str, typer.Argument(metavar="TASK_ID")]
KeyOption = Annotated[str | None, typer.Option("--idempotency-key", help="Repeat the same write safely.")]

COLUMNS = {
    "TASK ID": "task_id",
    "STATUS": "status",
    "TYPE": "type",
    "QUEUE": "queue",
    "PRIORITY": "priority",
    "ATTEMPT": "attempt",
    "AGENT": "agent_id",
    "TITLE": "title",
    "CREATED": "created_at",
}
FIELDS = (
    "task_id", "project", "status", "type", "queue", "title", "description", "priority", "requires", "labels",
    "depends_on", "group_id", "session_id", "unique_key", "locks", "not_before", "deadline", "attempt", "tries",
    "max_attempts",
    "agent_id", "waiting", "progress", "payload", "result", "failure", "created_at", "started_at", "completed_at",
    "revision",
)  # fmt: skip


@app.command("create")
@connected
async def create(
    hive: Hive,
    type_: Annotated[str | None, typer.Option("--type")] = None,
    title: Annotated[str | None, typer.Option("--title")] = None,
    payload: Annotated[str | None, typer.Option("--payload", help="JSON, @FILE, or - for standard input.")] = None,
    priority: Annotated[str | None, typer.Option("--priority", help="0-9, 9 first; or high, medium, low.")] = None,
    requires: Annotated[list[str] | None, typer.Option("--requires", help="NAME or NAME:PROFICIENCY.")] = None,
    depends_on: Annotated[list[str] | None, typer.Option("--depends-on", metavar="TASK_ID")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE")] = None,
    queue: Annotated[str | None, typer.Option("--queue")] = None,
    group: Annotated[str | None, typer.Option("--group")] = None,
    session: Annotated[str | None, typer.Option("--session")] = None,
    delay_ms: Annotated[int | None, typer.Option("--delay-ms")] = None,
    max_attempts: Annotated[int | None, typer.Option("--max-attempts")] = None,
    unique_key: Annotated[str | None, typer.Option("--unique-key")] = None,
    lock: Annotated[
        list[str] | None, typer.Option("--lock", metavar="PATH", help="For it alone; * ? [] ** match.")
    ] = None,
    shared_lock: Annotated[list[str] | None, typer.Option("--shared-lock", metavar="PATH")] = None,
    task_id: Annotated[str | None, typer.Option("--task-id", help="[default: made by the node]")] = None,
    key: KeyOption = None,
) -> None:
    """Submit a task; it is durable when this returns."""
    wanted: dict[str, Any] = {
        "type": type_,
        "title": title,
        "payload": None if payload is None else read_json(payload, "--payload"),
        "priority": int(priority) if priority is not None and priority.lstrip("-").isdecimal() else priority,
        "requires": [_requirement(text) for text in requires or ()] or None,
        "depends_on": depends_on or None,
        "labels": dict(_label(text) for text in label or ()) or None,
        "queue": queue,
        "group_id": group,
        "session_id": session,
        "delay_ms": delay_ms,
        "max_attempts": max_attempts,
        "unique_key": unique_key,
        "locks": _locks(lock or (), shared_lock or ()) or None,
        "task_id": task_id,
        "idempotency_key": key,
    }
    fields: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    hive.show(await hive.client.tasks.create(**fields), FIELDS)


def read_json(text: str, option: str) -> Any:
    """The JSON in an option's value, in the file it names with @, or (-) on standard input."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        raise UsageError(f"{option}: cannot read {text[1:]}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f'{option} is not JSON ({error}); quote it, for example \'{{"path": "a.py"}}\'') from error


def _requirement(text: str) -> dict[str, Any]:
    name, colon, proficiency = text.rpartition(":")
    if not colon:
        return {"name": text}
    try:
        return {"name": name, "min_proficiency": float(proficiency)}
    except ValueError:
        return {"name": text}  # capability names may have colons


def _locks(exclusive: Sequence[str], shared: Sequence[str]) -> list[dict[str, Any]]:
    modes = ((exclusive, True), (shared, False))
    return [{"path": path, "exclusive": mode} for paths, mode in modes for path in paths]


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--label {text!r} is not KEY=VALUE")
    return key, value


@app.command("get")
@connected
async def get(hive: Hive, task_id: TaskId) -> None:
    """Show one task."""
    hive.show(await hive.client.tasks.get(task_id), FIELDS)


@app.command("list")
@connected
async def list_(
    hive: Hive,
    status: Annotated[str | None, typer.Option("--status", help="One or several, comma-separated.")] = None,
    queue: Annotated[str | None, typer.Option("--queue")] = None,
    type_: Annotated[str | None, typer.Option("--type")] = None,
    agent: Annotated[str | None, typer.Option("--agent")] = None,
    session: Annotated[str | None, typer.Option("--session")] = None,
    group: Annotated[str | None, typer.Option("--group")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE")] = None,
    waiting_for: Annotated[str | None, typer.Option("--waiting-for", help="approval, event, time, or a name.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
) -> None:
    """List tasks, newest first."""
    wanted: dict[str, Any] = {
        "status": status,
        "queue": queue,
        "type": type_,
        "agent_id": agent,
        "session_id": session,
        "group_id": group,
        "label": dict(_label(text) for text in label or ()) or None,
        "waiting_for": waiting_for,
    }
    filters: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if all_:
        items: list[Task] = [task async for task in hive.client.tasks.iterate(**filters)]
        hive.show_all(items, None, COLUMNS)
    else:
        hive.show_page(await hive.client.tasks.list(limit=limit, cursor=cursor, **filters), COLUMNS)


@app.command("cancel")
@connected
async def cancel(hive: Hive, task_id: TaskId) -> None:
    """Cancel a task; the agent that works on it is told."""
    hive.show(await hive.client.tasks.cancel(task_id), FIELDS)


@app.command("retry")
@connected
async def retry(hive: Hive, task_id: TaskId) -> None:
    """Give a failed task a fresh set of tries."""
    hive.show(await hive.client.tasks.retry(task_id), FIELDS)


@app.command("wait")
@connected
async def wait(
    hive: Hive,
    task_id: TaskId,
    until: Annotated[Literal["started", "ended"], typer.Option("--until")] = "ended",
    wait_s: Annotated[float | None, typer.Option("--wait-s", min=0, help="[default: as long as it takes]")] = None,
) -> None:
    """Wait for a task. Exit status 1 when it ended otherwise than completed, or not in time."""
    task = await hive.client.tasks.wait(task_id, until=until, timeout_s=wait_s)
    hive.show(task, FIELDS)
    if task.ended and task.status != "completed":
        raise CommandError(f"task {task_id} ended as {task.status}; `hive task explain {task_id}` says more")


@app.command("explain")
@connected
async def explain(hive: Hive, task_id: TaskId) -> None:
    """Say why a task is not running, and what each agent lacks."""
    explanation = await hive.client.tasks.explain(task_id)
    if hive.as_json:
        print_json(explanation.raw)
        return
    agents = explanation.agents
    print_fields({"status": explanation.status, "agents": agents.get("total"), "filtered": agents.get("filtered")})
    print_table(("REASON", "MESSAGE", "DATA"), ((r.code, r.message, r.data) for r in explanation.reasons))
    candidates = agents.get("candidates")
    if isinstance(candidates, list) and candidates:
        rows = ((c.get("agent_id"), c.get("score"), c.get("parts")) for c in candidates if isinstance(c, dict))
        print_table(("CANDIDATE", "SCORE", "PARTS"), rows)
