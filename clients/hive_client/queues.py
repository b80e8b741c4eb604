"""``client.queues``: how long queues are, and what limits them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from typing import Any, Literal, Unpack

from hive_client.calls import Calls, segment
from hive_client.models.queues import Queue
from hive_client.models.record import Page
from hive_client.options import ReadOptions, WriteOptions
from hive_client.paging import every_item


class Unchanged(Enum):
    """The default of settings for which None has a meaning."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


class Queues:
    """Queues: `client.queues`. One is there as soon as a task or a setting names it."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        order: Literal["asc", "desc"] = "asc",
        **options: Unpack[ReadOptions],
    ) -> Page[Queue]:
        """By name."""
        query = {"limit": limit, "cursor": cursor, "order": order if order != "asc" else None}
        return Page.from_reply(await self._calls.read("/api/queues", query, options), Queue)

    def iterate(self, *, page_size: int = 500, **options: Unpack[ReadOptions]) -> AsyncIterator[Queue]:
        return every_item(lambda cursor: self.list(limit=page_size, cursor=cursor, **options))

    async def get(self, name: str, **options: Unpack[ReadOptions]) -> Queue:
        """Raises ``NotFound`` while neither a task nor a setting names it."""
        return Queue.from_reply(await self._calls.read(_path(name), None, options))

    async def pause(self, name: str, **options: Unpack[WriteOptions]) -> Queue:
        """Grant nothing of it until it is resumed; what runs goes on."""
        return await self._patch(name, {"paused": True}, options)

    async def resume(self, name: str, **options: Unpack[WriteOptions]) -> Queue:
        return await self._patch(name, {"paused": False}, options)

    async def update(
        self,
        name: str,
        *,
        paused: bool | None = None,
        max_running: int | Unchanged | None = UNCHANGED,
        rate_per_second: float | Unchanged | None = UNCHANGED,
        max_running_per_key: int | None = None,
        if_revision: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Queue:
        """Set limits; None lifts ``max_running`` or ``rate_per_second``. ``if_revision``: raises ``Conflict`` if it was
        changed since.
        """
        wanted: dict[str, Any] = {
            "paused": UNCHANGED if paused is None else paused,
            "max_running": max_running,
            "rate_per_second": rate_per_second,
            "max_running_per_key": UNCHANGED if max_running_per_key is None else max_running_per_key,
            "if_revision": UNCHANGED if if_revision is None else if_revision,
        }
        return await self._patch(name, {key: value for key, value in wanted.items() if value is not UNCHANGED}, options)

    async def _patch(self, name: str, body: dict[str, Any], options: WriteOptions) -> Queue:
        return Queue.from_reply(await self._calls.write("PATCH", _path(name), body, options))


def _path(name: str) -> str:
    return f"/api/queues/{segment(name)}"
