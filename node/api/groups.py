"""Routes of groups: tasks that belong together, waited for and cancelled together."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec

from cluster.replica import View
from node.api.problem import Problem
from node.api.query import ReadQuery, WaitMs, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.times import text
from node.api.writes import decide, replay_headers
from statemachine import groups
from statemachine.commands import CancelGroup
from statemachine.groups import Group


class GetGroup(ReadQuery, kw_only=True):
    """`until` with `wait_ms` waits until all tasks have ended, or also until the first has failed."""

    until: Literal["ended", "any_failed"] | None = None
    wait_ms: WaitMs = 0


class GroupView(msgspec.Struct):
    """A group. `counts` by status, without zeros; `failed` are ids, at most 100 (`counts` has the true number).

    `cancelled`, in the answer to DELETE: how many were cancelled with it; of a large group the rest follows at once.
    """

    group_id: str
    project: str
    counts: dict[str, int]
    total: int
    ended: bool
    failed: list[str]
    created_at: str
    revision: int
    created_revision: int
    cancelled: int | msgspec.UnsetType = msgspec.UNSET


def _group_view(project: str, group: Group) -> GroupView:
    return GroupView(
        group.group_id,
        project,
        group.counts,
        group.total,
        group.ended,
        group.failed,
        text(group.created_at),
        group.revision,
        group.created_revision,
    )


def _find(request: Request[Any, Any], view: View) -> Group:
    group_id = request.parameters["group_id"]
    group = groups.get(view, request.require_project(view).number, group_id)
    if group is None:
        raise Problem("not_found", f"group {group_id!r} is unknown here at revision {view.revision}")
    return group


async def get_group(request: Request[GetGroup, Any]) -> Reply:
    """A group, at once or when it has ended or a task of it has failed."""
    query = request.query
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + query.wait_ms / 1_000
    topics = (f"group.{request.parameters['group_id']}",)
    while True:
        with request.view() as view:
            group = _find(request, view)
        if query.until is None or group.ended or (query.until == "any_failed" and group.failed):
            break
        wait_s = give_up_s - loop.time()
        if await request.api.wakeups.wait(request.project, topics, wait_s, request.connection) is None:
            break
    return json_reply(_group_view(request.project, group))


async def cancel_group(request: Request[WriteQuery, Any]) -> Reply:
    """Cancel every task of the group that has not ended."""
    outcome = await decide(request, CancelGroup(request.parameters["group_id"]))
    item = outcome.items[0]
    with request.view() as view:
        body = _group_view(request.project, _find(request, view))
    body.cancelled = item.numbers[0]
    return json_reply(body, 200, replay_headers(outcome))


_ONE = "/api/groups/{group_id}"

ROUTES = (
    Route(
        "GET", _ONE, get_group, "A group of tasks; `until` waits", "tasks:read",
        query=GetGroup, reply=GroupView, waits=True,
    ),
    Route("DELETE", _ONE, cancel_group, "Cancel all its tasks", "tasks:write", query=WriteQuery, reply=GroupView),
)  # fmt: skip
