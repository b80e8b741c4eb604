"""The route that redrives failed tasks by filter."""

from __future__ import annotations

from typing import Annotated

import msgspec

from node.api.body import Body
from node.api.ids import Id
from node.api.query import Text, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.writes import decide, replay_headers
from statemachine import limits
from statemachine.commands import RetryTasks


class RedriveBody(Body):
    """`POST /api/tasks/retry`. `limit`: how many at most; of these `rate_per_second` are pending at once, and as many
    again with each second."""

    queue: Id | None = None
    reason: Text | None = None
    group_id: Id | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.RETRY_LIMIT_MAX)] = 1_000
    rate_per_second: Annotated[int, msgspec.Meta(ge=1, le=limits.RETRY_RATE_MAX)] = 1_000


class Redriven(msgspec.Struct):
    """How many were redriven with this answer; `more`: the rest follows by itself."""

    retried: int
    more: bool
    revision: int


async def retry_tasks(request: Request[WriteQuery, RedriveBody]) -> Reply:
    """Redrive failed tasks that fit, oldest first."""
    body = request.body
    command = RetryTasks(body.queue, body.reason, body.group_id, body.limit, body.rate_per_second)
    outcome = await decide(request, command)
    retried, more = outcome.items[0].numbers
    return json_reply(Redriven(retried, bool(more), outcome.items[0].revision), 200, replay_headers(outcome))


ROUTES = (
    Route(
        "POST", "/api/tasks/retry", retry_tasks, "Redrive failed tasks by filter", "tasks:write",
        query=WriteQuery, body=RedriveBody, reply=Redriven,
    ),
)  # fmt: skip
