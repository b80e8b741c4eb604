"""What the agent that holds a task may say about it. Every verb is fenced by ``attempt``: an old one raises
``StaleAttempt``.

Repeating a verb that this attempt already won is answered like the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from hive_client.calls import Calls, segment, without_none
from hive_client.models.record import Page
from hive_client.models.tasks import Batch, Grant, Lease, Task
from hive_client.options import SignalOptions, WriteOptions

Item = Mapping[str, Any]


class TaskVerbs:
    """claim, accept, renew, progress, complete, fail, release: singly and as batches."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def claim(
        self,
        *,
        agent_id: str,
        epoch: int,
        limit: int = 1,
        wait_ms: int = 0,
        queues: Sequence[str] | None = None,
        lease_ms: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Page[Grant]:
        """The pull way: take up to ``limit`` tasks that fit, running at once; waits up to ``wait_ms`` for the first."""
        body = {"agent_id": agent_id, "epoch": epoch, "limit": limit, "wait_ms": wait_ms}
        body |= without_none(queues=None if queues is None else list(queues), lease_ms=lease_ms)
        reply = await self._calls.write("POST", "/api/tasks/claim", body, options, wait_s=wait_ms / 1000)
        return Page.from_reply(reply, Grant)

    async def claim_one(self, task_id: str, *, agent_id: str, epoch: int, **options: Unpack[WriteOptions]) -> Grant:
        """Take this task, also as the way back for late work: claim again, then complete. ``Conflict`` has
        ``current``.
        """
        body = {"agent_id": agent_id, "epoch": epoch}
        return Grant.from_reply(await self._calls.write("POST", _path(task_id, "claim"), body, options))

    async def accept(
        self,
        task_id: str,
        *,
        agent_id: str,
        attempt: int,
        epoch: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Grant:
        """Take an offer. The lease counts from when this was sent."""
        body = {"agent_id": agent_id, "attempt": attempt, **without_none(epoch=epoch)}
        return Grant.from_reply(await self._calls.write("POST", _path(task_id, "accept"), body, options))

    async def renew(
        self,
        task_id: str,
        *,
        agent_id: str,
        attempt: int,
        epoch: int | None = None,
        **options: Unpack[SignalOptions],
    ) -> Lease:
        """Extend the lease by hand; a heartbeat that lists the task does the same."""
        body = {"agent_id": agent_id, "attempt": attempt, **without_none(epoch=epoch)}
        return Lease.from_reply(await self._calls.signal(_path(task_id, "renew"), body, **options))

    async def progress(
        self,
        task_id: str,
        *,
        agent_id: str,
        attempt: int,
        fraction: float | None = None,
        message: str | None = None,
        checkpoint: Any = None,
        epoch: int | None = None,
        **options: Unpack[SignalOptions],
    ) -> Lease:
        """Report how far it is. Durable only with a ``checkpoint``, which the next attempt gets if this one is lost."""
        body = {"agent_id": agent_id, "attempt": attempt}
        body |= without_none(fraction=fraction, message=message, checkpoint=checkpoint, epoch=epoch)
        return Lease.from_reply(await self._calls.signal(_path(task_id, "progress"), body, **options))

    async def complete(
        self,
        task_id: str,
        *,
        agent_id: str,
        attempt: int,
        result: Any = None,
        artifacts: Sequence[Item] | None = None,
        usage: Item | None = None,
        tasks: Sequence[Item] | None = None,
        events: Sequence[Item] | None = None,
        epoch: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Task:
        """End the task with its result; follow-up ``tasks`` and ``events`` come into being with it or not at all."""
        body = {"agent_id": agent_id, "attempt": attempt}
        body |= without_none(result=result, artifacts=artifacts, usage=usage, tasks=tasks, events=events, epoch=epoch)
        return Task.from_reply(await self._calls.write("POST", _path(task_id, "complete"), body, options))

    async def fail(
        self,
        task_id: str,
        *,
        agent_id: str,
        attempt: int,
        reason: str = "error",
        message: str = "",
        retryable: bool = True,
        usage: Item | None = None,
        epoch: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Task:
        """End the attempt; with tries left and ``retryable`` the task comes again after its back-off."""
        body = {"agent_id": agent_id, "attempt": attempt, "reason": reason, "message": message, "retryable": retryable}
        body |= without_none(usage=usage, epoch=epoch)
        return Task.from_reply(await self._calls.write("POST", _path(task_id, "fail"), body, options))

    async def release(
        self,
        task_id: str,
        *,
        agent_id: str,
        attempt: int,
        checkpoint: Any = None,
        message: str | None = None,
        epoch: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Task:
        """Decline an offer, hand a task back, or confirm that a cancelled one was stopped.

        The next attempt is given the ``checkpoint`` and, as ``progress.message``, the ``message``.
        """
        body = {"agent_id": agent_id, "attempt": attempt}
        body |= without_none(checkpoint=checkpoint, message=message, epoch=epoch)
        return Task.from_reply(await self._calls.write("POST", _path(task_id, "release"), body, options))

    async def renew_batch(self, agent_id: str, items: Sequence[Item], **options: Unpack[SignalOptions]) -> Batch:
        """Each item: ``task_id, attempt``."""
        body = {"agent_id": agent_id, "items": list(items)}
        return Batch.from_reply(await self._calls.signal("/api/tasks/renew", body, **options))

    async def progress_batch(self, agent_id: str, items: Sequence[Item], **options: Unpack[SignalOptions]) -> Batch:
        """Each item: ``task_id, attempt`` and what ``progress`` takes."""
        body = {"agent_id": agent_id, "items": list(items)}
        return Batch.from_reply(await self._calls.signal("/api/tasks/progress", body, **options))

    async def accept_batch(self, agent_id: str, items: Sequence[Item], **options: Unpack[WriteOptions]) -> Batch:
        """Take many offers. Each item: ``task_id, attempt``."""
        return await self._batch("accept", agent_id, items, options)

    async def complete_batch(self, agent_id: str, items: Sequence[Item], **options: Unpack[WriteOptions]) -> Batch:
        """Each item: ``task_id, attempt`` and what ``complete`` takes."""
        return await self._batch("complete", agent_id, items, options)

    async def fail_batch(self, agent_id: str, items: Sequence[Item], **options: Unpack[WriteOptions]) -> Batch:
        """Each item: ``task_id, attempt`` and what ``fail`` takes."""
        return await self._batch("fail", agent_id, items, options)

    async def release_batch(self, agent_id: str, items: Sequence[Item], **options: Unpack[WriteOptions]) -> Batch:
        """Each item: ``task_id, attempt`` and what ``release`` takes."""
        return await self._batch("release", agent_id, items, options)

    async def _batch(self, verb: str, agent_id: str, items: Sequence[Item], options: WriteOptions) -> Batch:
        body = {"agent_id": agent_id, "items": list(items)}
        return Batch.from_reply(await self._calls.write("POST", f"/api/tasks/{verb}", body, options))


def _path(task_id: str, verb: str) -> str:
    return f"/api/tasks/{segment(task_id)}/{verb}"
