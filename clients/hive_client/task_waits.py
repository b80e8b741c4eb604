"""Parking tasks until a person, an event or a time; answering what they wait for; redriving failed ones by filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack

from hive_client.calls import segment, without_none
from hive_client.models.tasks import Batch, Redriven, Task
from hive_client.options import WriteOptions
from hive_client.task_verbs import Item, TaskVerbs

OnTimeout = Literal["resume", "fail", "cancel"]


class WaitFor(TypedDict, total=False):
    """What a task waits for: ``kind`` (approval, event, time) and the ``name`` its answer goes by (default: the kind).

    ``prompt``, ``options`` and ``assignee`` are for whoever answers.
    """

    kind: str
    name: str
    prompt: str
    options: list[Any]
    assignee: str


class TaskWaits(TaskVerbs):
    """park and resume, singly and as batches; retry_many."""

    async def park(
        self,
        task_id: str,
        *,
        agent_id: str,
        attempt: int,
        wait_for: WaitFor,
        checkpoint: Any = None,
        timeout_ms: int | None = None,
        on_timeout: OnTimeout | None = None,
        usage: Item | None = None,
        epoch: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Task:
        """End the attempt without a try counted: no slot, no lease, until somebody resumes the task (API: ``wait``).

        The next attempt goes on from ``checkpoint``. A wait for a time needs ``timeout_ms``; ``on_timeout`` says what
        happens then (default: resume). With its answer kept already, the task is pending at once.
        """
        body: dict[str, Any] = {"agent_id": agent_id, "attempt": attempt, "for": dict(wait_for)}
        body |= without_none(
            checkpoint=checkpoint, timeout_ms=timeout_ms, on_timeout=on_timeout, usage=usage, epoch=epoch
        )
        path = f"/api/tasks/{segment(task_id)}/wait"
        return Task.from_reply(await self._calls.write("POST", path, body, options))

    async def park_batch(self, agent_id: str, items: Sequence[Item], **options: Unpack[WriteOptions]) -> Batch:
        """Each item: ``task_id, attempt, for`` and what ``wait`` of the API takes."""
        return await self._batch("wait", agent_id, items, options)

    async def resume(
        self,
        task_id: str,
        name: str | None = None,
        *,
        data: Any = None,
        actor: str | None = None,
        **options: Unpack[WriteOptions],
    ) -> Task:
        """Answer what the task waits for; without ``name`` what it waits for now.

        An answer before its wait is kept for it: ``waiting`` of the result, or its status, says which it was. A second,
        different answer to an approval raises ``Conflict``.
        """
        body = without_none(name=name, data=data, actor=actor)
        path = f"/api/tasks/{segment(task_id)}/resume"
        return Task.from_reply(await self._calls.write("POST", path, body, options))

    async def resume_batch(self, items: Sequence[Item], **options: Unpack[WriteOptions]) -> Batch:
        """Each item: ``task_id`` and what ``resume`` takes."""
        return Batch.from_reply(await self._calls.write("POST", "/api/tasks/resume", {"items": list(items)}, options))

    async def retry_many(
        self,
        *,
        queue: str | None = None,
        reason: str | None = None,
        group_id: str | None = None,
        limit: int | None = None,
        rate_per_second: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Redriven:
        """Redrive failed tasks that fit, oldest first, ``rate_per_second`` (default 1,000) pending with each second."""
        body = without_none(queue=queue, reason=reason, group_id=group_id, limit=limit, rate_per_second=rate_per_second)
        return Redriven.from_reply(await self._calls.write("POST", "/api/tasks/retry", body, options))
