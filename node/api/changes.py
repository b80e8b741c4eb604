"""`GET /api/changes`: the change feed in pages, with long-poll."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec

from node.api.body import Count
from node.api.feed import Data, Filter, Look, Message, look
from node.api.query import ReadQuery, Text, WaitMs
from node.api.reply import Reply, encode
from node.api.request import Request
from node.api.route import Route
from statemachine import limits


class ListChanges(ReadQuery, kw_only=True):
    """Which changes, from where. `from_revision` is the first one wanted; absent: from now."""

    from_revision: Count | None = None
    topics: tuple[Text, ...] = ()
    data: Data = "summary"
    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.LIST_LIMIT_MAX)] = limits.LIST_LIMIT_DEFAULT
    wait_ms: WaitMs = 0


class ChangePage(msgspec.Struct):
    """Ask next from `next_revision`: it also advances over what the filter dropped."""

    items: list[Message]
    next_revision: int
    oldest_revision: int


async def list_changes(request: Request[ListChanges, Any]) -> Reply:
    """Messages from a revision on; with `wait_ms` sleeps until there is one."""
    query = request.query
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + query.wait_ms / 1_000
    wanted = Filter(request.project, query.topics, query.data)
    next_revision = query.from_revision
    while True:
        found = _look(request, wanted, next_revision)
        next_revision = found.next_revision
        if found.messages or loop.time() >= give_up_s:
            break
        if found.next_revision <= found.revision:
            await asyncio.sleep(0)  # the filter dropped all of it: let others run before looking at more
            continue
        woken = await wait_for_more(request, wanted, give_up_s - loop.time())
        if woken is None:
            break
        next_revision = max(next_revision, woken)
    members = encode({"next_revision": next_revision, "oldest_revision": found.oldest_revision})
    return Reply(b'{"items":[' + b",".join([text for _, text in found.messages]) + b"]," + members[1:])


def _look(request: Request[ListChanges, Any], wanted: Filter, from_revision: int | None) -> Look:
    with request.view() as view:
        request.require_project(view)
        start = view.revision + 1 if from_revision is None else max(from_revision, 1)
        return look(view, wanted, start, request.query.limit, limits.REPLY_BYTES_MAX)


async def wait_for_more(request: Request[Any, Any], wanted: Filter, wait_s: float) -> int | None:
    """Sleep until something that is wanted is applied: its revision; None when the time is over."""
    wakeups = request.api.wakeups
    if wanted.everything:
        return await wakeups.wait_any(wait_s, request.connection)
    return await wakeups.wait(wanted.project, wanted.topics, wait_s, request.connection)


ROUTES = (
    Route(
        "GET", "/api/changes", list_changes, "Follow all changes, in pages", "changes:read",
        query=ListChanges, reply=ChangePage, waits=True,
    ),
)  # fmt: skip
