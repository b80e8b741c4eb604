"""``client.projects``: every resource lives in one; ``default`` always exists."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Unpack

from hive_client.calls import Calls
from hive_client.models.cluster import Project
from hive_client.models.record import Page
from hive_client.options import ReadOptions, WriteOptions
from hive_client.paging import every_item


class Projects:
    """Projects: `client.projects`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(
        self, *, limit: int | None = None, cursor: str | None = None, **options: Unpack[ReadOptions]
    ) -> Page[Project]:
        query = {"limit": limit, "cursor": cursor}
        return Page.from_reply(await self._calls.read("/api/projects", query, options), Project)

    def iterate(self, *, page_size: int = 500, **options: Unpack[ReadOptions]) -> AsyncIterator[Project]:
        return every_item(lambda cursor: self.list(limit=page_size, cursor=cursor, **options))

    async def create(self, project: str, **options: Unpack[WriteOptions]) -> Project:
        return Project.from_reply(await self._calls.write("POST", "/api/projects", {"project": project}, options))
