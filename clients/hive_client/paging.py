"""Lists to their end: follow ``next_cursor`` until it is null; a short page says nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from hive_client.models.record import Page, R


async def every_item(fetch: Callable[[str | None], Awaitable[Page[R]]]) -> AsyncIterator[R]:
    """All items of all pages."""
    cursor: str | None = None
    while True:
        page = await fetch(cursor)
        for item in page.items:
            yield item
        cursor = page.next_cursor
        if cursor is None:
            return
