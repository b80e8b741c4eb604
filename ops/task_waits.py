"""`hive task park`, `resume`, `redrive`: tasks that wait for somebody, and tasks that failed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from hive_client.task_waits import WaitFor

from ops.connection import Hive, connected
from ops.output import print_json, print_line
from ops.task import FIELDS, KeyOption, TaskId, read_json


def add_to(tasks: typer.Typer) -> None:
    """Give `hive task` its commands for waiting and failed tasks."""
    for name, command in (("park", park), ("resume", resume), ("redrive", redrive)):
        tasks.command(name)(connected(command))


async def park(
    hive: Hive,
    task_id: TaskId,
    agent: Annotated[str, typer.Option("--agent", help="Who holds the task.")],
    attempt: Annotated[int, typer.Option("--attempt", help="The attempt that is parked.")],
    kind: Annotated[Literal["approval", "event", "time"], typer.Option("--kind")] = "approval",
    name: Annotated[str | None, typer.Option("--name", help="What the answer goes by. [default: the kind]")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="What to ask.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="An answer to choose; may be repeated.")] = None,
    assignee: Annotated[str | None, typer.Option("--assignee")] = None,
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", help="JSON, @FILE, or -.")] = None,
    timeout_ms: Annotated[int | None, typer.Option("--timeout-ms")] = None,
    on_timeout: Annotated[Literal["resume", "fail", "cancel"], typer.Option("--on-timeout")] = "resume",
    key: KeyOption = None,
) -> None:
    """Park a running task until somebody resumes it: its slot is free, and no lease runs."""
    wanted = {"name": name, "prompt": prompt, "options": option or None, "assignee": assignee}
    wait_for: WaitFor = {"kind": kind}
    wait_for.update({field: value for field, value in wanted.items() if value is not None})  # type: ignore[typeddict-item]  # the fields are those of WaitFor
    task = await hive.client.tasks.park(
        task_id,
        agent_id=agent,
        attempt=attempt,
        wait_for=wait_for,
        checkpoint=None if checkpoint is None else read_json(checkpoint, "--checkpoint"),
        timeout_ms=timeout_ms,
        on_timeout=on_timeout,
        **_under(key),
    )
    hive.show(task, FIELDS)


async def resume(
    hive: Hive,
    task_id: TaskId,
    name: Annotated[str | None, typer.Option("--name", help="[default: what it waits for now]")] = None,
    data: Annotated[str | None, typer.Option("--data", help="JSON, @FILE, or - for standard input.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Who answers.")] = None,
    key: KeyOption = None,
) -> None:
    """Answer what a task waits for; an answer to what it does not wait for yet is kept."""
    answer = None if data is None else read_json(data, "--data")
    hive.show(await hive.client.tasks.resume(task_id, name, data=answer, actor=actor, **_under(key)), FIELDS)


async def redrive(
    hive: Hive,
    queue: Annotated[str | None, typer.Option("--queue")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only those that failed for it, as timeout.")] = None,
    group: Annotated[str | None, typer.Option("--group")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 1_000,
    rate: Annotated[
        int, typer.Option("--rate-per-second", min=1, help="How many are pending with each second.")
    ] = 1_000,
    key: KeyOption = None,
) -> None:
    """Give failed tasks a fresh set of tries, oldest first."""
    done = await hive.client.tasks.retry_many(
        queue=queue, reason=reason, group_id=group, limit=limit, rate_per_second=rate, **_under(key)
    )
    if hive.as_json:
        print_json(done.raw)
    else:
        print_line(f"{done.retried} tasks begin anew{'; the rest follows' if done.more else ''}")


def _under(key: str | None) -> dict[str, Any]:
    return {} if key is None else {"idempotency_key": key}
