"""``client.tasks``: submit, look, wait, cancel, explain. Verbs of the agent that works on one: ``task_verbs``; parking
and resuming: ``task_waits``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack, cast

from hive_client.calls import segment, without_none
from hive_client.errors import NotFound, WaitTimedOut
from hive_client.models.record import Page
from hive_client.models.tasks import Batch, Explanation, Task, TaskFields
from hive_client.options import QueryValue, ReadOptions, WriteOptions
from hive_client.paging import every_item
from hive_client.task_waits import TaskWaits

# One long poll; shorter than what proxies commonly cut, well under the server's maximum of 60 s.
WAIT_MS = 20_000

_OPTION_NAMES = frozenset(WriteOptions.__annotations__)


class TaskOptions(TaskFields, WriteOptions, total=False):
    """A new task's fields and the options of the write, together as keywords."""


class TaskFilters(ReadOptions, total=False):
    """Several values: a list or ``"a,b"``. ``label``: a mapping, all of it must match."""

    status: str | Iterable[str]
    queue: str | Iterable[str]
    type: str | Iterable[str]
    agent_id: str | Iterable[str]
    session_id: str | Iterable[str]
    group_id: str | Iterable[str]
    unique_key: str | Iterable[str]
    depends_on: str | Iterable[str]
    label: Mapping[str, str]
    waiting_for: str | Iterable[str]
    created_since: str
    updated_since: str
    ids: Iterable[str]
    order: Literal["asc", "desc"]
    fields: Iterable[str]


class Tasks(TaskWaits):
    """The task queue of one project."""

    async def create(self, **task: Unpack[TaskOptions]) -> Task:
        """Submit a task; durable when this returns.

        The same ``task_id`` and content again returns the task; other content raises ``Exists``. A
        ``unique_key`` that a task holds which has not ended returns that task. Without ``task_id`` the server
        makes one.
        """
        body = {name: value for name, value in task.items() if name not in _OPTION_NAMES}
        options = cast(WriteOptions, {name: value for name, value in task.items() if name in _OPTION_NAMES})
        return Task.from_reply(await self._calls.write("POST", "/api/tasks", body, options))

    async def create_batch(
        self,
        items: Sequence[TaskFields],
        *,
        atomic: bool = False,
        full: bool = False,
        **options: Unpack[WriteOptions],
    ) -> Batch:
        """Submit up to 1,000 tasks at once; each is accepted or refused on its own, or with ``atomic`` all or none.

        Items may depend on each other in any order. ``full``: the answers carry the tasks in ``body``.
        """
        body = {"items": list(items), "atomic": atomic}
        query = {"return": "full"} if full else None
        return Batch.from_reply(await self._calls.write("POST", "/api/tasks/batch", body, options, query=query))

    async def get(self, task_id: str, **options: Unpack[ReadOptions]) -> Task:
        return Task.from_reply(await self._calls.read(f"/api/tasks/{segment(task_id)}", None, options))

    async def list(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Unpack[TaskFilters]
    ) -> Page[Task]:
        """One page, newest first. ``limit`` at most 1000 (server's default 100)."""
        query, options = split_filters(filters)
        query |= {"limit": limit, "cursor": cursor}
        return Page.from_reply(await self._calls.read("/api/tasks", query, options), Task)

    def iterate(self, *, page_size: int = 500, **filters: Unpack[TaskFilters]) -> AsyncIterator[Task]:
        """Every task, page by page; one that is there throughout comes exactly once."""
        return every_item(lambda cursor: self.list(limit=page_size, cursor=cursor, **filters))

    async def wait(
        self,
        task_id: str,
        *,
        until: Literal["started", "ended"] = "ended",
        timeout_s: float | None = None,
    ) -> Task:
        """Wait until the task has started or ended, through failovers. Raises ``WaitTimedOut`` with what
        was last seen.
        """
        clock = self._calls.transport.clock
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        last: Task | None = None
        while True:
            left_s = None if deadline is None else deadline - clock.monotonic()
            if left_s is not None and left_s <= 0:
                raise WaitTimedOut(
                    f"task {task_id} has not {until} within {timeout_s} s",
                    current=None if last is None else last.status,
                )
            wait_ms = WAIT_MS if left_s is None else min(WAIT_MS, max(1, int(left_s * 1000)))
            last = await self._look(task_id, until, wait_ms)
            if last.ended or (until == "started" and last.started):
                return last

    async def _look(self, task_id: str, until: str, wait_ms: int) -> Task:
        path = f"/api/tasks/{segment(task_id)}"
        query: dict[str, QueryValue] = {"until": until, "wait_ms": wait_ms}
        try:
            return Task.from_reply(await self._calls.read(path, query))
        except NotFound:
            # A node that lags may not know a task that exists: only a linearizable "no" is final.
            return Task.from_reply(await self._calls.read(path, None, {"consistency": "linearizable"}))

    async def update(
        self,
        task_id: str,
        changes: Mapping[str, Any],
        *,
        if_revision: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Task:
        """Change priority, labels, metadata, deadline, not_before or queue (merge patch: None removes)."""
        body = {**changes, **without_none(if_revision=if_revision)}
        return Task.from_reply(await self._calls.write("PATCH", f"/api/tasks/{segment(task_id)}", body, options))

    async def assign(self, task_id: str, agent_id: str, **options: Unpack[WriteOptions]) -> Task:
        """Assign by hand. Raises ``AgentUnavailable``, which says why."""
        path = f"/api/tasks/{segment(task_id)}/assign"
        return Task.from_reply(await self._calls.write("PUT", path, {"agent_id": agent_id}, options))

    async def cancel(self, task_id: str, **options: Unpack[WriteOptions]) -> Task:
        """Cancelled at once; the agent that works on it is told. Harmless if already cancelled,
        ``Conflict`` if ended.
        """
        return Task.from_reply(await self._calls.write("DELETE", f"/api/tasks/{segment(task_id)}", None, options))

    async def retry(self, task_id: str, **options: Unpack[WriteOptions]) -> Task:
        """Redrive a failed task: a fresh set of tries."""
        return Task.from_reply(await self._calls.write("POST", f"/api/tasks/{segment(task_id)}/retry", {}, options))

    async def explain(self, task_id: str, **options: Unpack[ReadOptions]) -> Explanation:
        """Why the task is not running, and what each agent lacks."""
        path = f"/api/tasks/{segment(task_id)}/explain"
        return Explanation.from_reply(await self._calls.read(path, None, options))


def split_filters(filters: Mapping[str, Any]) -> tuple[dict[str, Any], ReadOptions]:
    """Filters of a list on one side, options of the read on the other."""
    names = ReadOptions.__annotations__
    options = {name: value for name, value in filters.items() if name in names}
    query = {name: value for name, value in filters.items() if name not in names}
    return query, cast(ReadOptions, options)
