"""The survey: counts lines, in two halves with a checkpoint between them. What an agent has in hand when it is hit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from hive_client import Completion, HiveError, Stop, TaskContext

from ops.demo.recording import recorded, recorded_event
from ops.demo.source import FILE_BYTES_MAX
from ops.demo.work import SourceGoneError, path_within

LATE = "custom.demo.late_acknowledgement"

# What the second half takes at least: long enough to be seen at work.
SECOND_HALF_S = 2.0


def survey_handler(root: Path, session_id: str) -> Callable[[TaskContext], Coroutine[Any, Any, Completion]]:
    """The handler of the process that writes its steps to this session."""

    async def handle(context: TaskContext) -> Completion:
        paths = context.payload["paths"]
        half = len(paths) // 2
        if context.checkpoint is None:
            lines = await asyncio.to_thread(count_lines, root, paths[:half])
            checkpoint = {"files": half, "lines": lines}
            await context.progress(0.5, f"{half} of {len(paths)} files are counted", checkpoint=checkpoint)
        else:
            checkpoint = context.checkpoint
        if context.payload["held_by"] == session_id:
            await _until_hit(context, session_id)
        await asyncio.sleep(SECOND_HALF_S)
        rest = paths[checkpoint["files"] :]
        lines = checkpoint["lines"] + await asyncio.to_thread(count_lines, root, rest)
        return recorded(context, {"files": len(paths), "lines": lines})

    return handle


async def _until_hit(context: TaskContext, session_id: str) -> None:
    """Stay at the checkpoint, as one does that waits for a model; never returns.

    Who finds its lease over when it wakes tries to get its result in all the same: others are not as careful as
    `hive_client`, which stops before.
    """
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if context.stop_reason in (Stop.LOST, Stop.LEASE_RUN_OUT):
            await _acknowledge_late(context, session_id)
        raise


async def _acknowledge_late(context: TaskContext, session_id: str) -> None:
    task_id, attempt = context.task.task_id, context.attempt
    said: dict[str, Any] = {"task_id": task_id, "attempt": attempt}
    try:
        await context.client.tasks.complete(
            task_id,
            agent_id=context.agent_id,
            attempt=attempt,
            result={"late": True},
            events=[recorded_event(task_id, attempt, context.agent_id)],
        )
    except HiveError as error:
        said |= {"code": error.code, "current": error.current}
    await context.client.sessions.append(session_id, type=LATE, data=said)


def count_lines(root: Path, paths: Sequence[str]) -> int:
    """Lines of these files together; one that cannot be read has none."""
    return sum(_lines(root, path) for path in paths)


def _lines(root: Path, path: str) -> int:
    try:
        with path_within(root, path).open("rb") as file:
            return len(file.read(FILE_BYTES_MAX).splitlines())
    except (OSError, SourceGoneError):
        return 0
