"""Routes of queues: how long they are, and what limits them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from cluster.replica import View
from node.api.body import Body
from node.api.pages import Page, PageBuilder, encode_cursor, fill, name_of
from node.api.problem import Problem
from node.api.query import ListQuery, ReadQuery, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.times import text_or_none
from node.api.writes import write
from statemachine import counters, limits, queues, task_record
from statemachine.commands import UpdateQueue
from statemachine.outcome import Item, record_of
from statemachine.queues import Queue
from statemachine.records import Project
from statemachine.task_states import TaskState

_KIND = "queues"
MILLI = 1_000

MaxRunning = Annotated[int, msgspec.Meta(ge=0, le=limits.QUEUE_MAX_RUNNING_MAX)]
Rate = Annotated[float, msgspec.Meta(ge=1 / MILLI, le=limits.QUEUE_RATE_MILLI_MAX // MILLI)]
PerKey = Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_RUNNING_PER_KEY_MAX)]


class ListQueues(ListQuery, kw_only=True):
    """By name."""

    order: Literal["asc", "desc"] = "asc"


class QueuePatch(Body):
    """`PATCH /api/queues/{name}`: null lifts a limit, what is absent stays.

    `max_running`: how many of its tasks may be with agents. `rate_per_second`: how many may be granted, in thousandths;
    a burst is what a second allows, and at least one. `max_running_per_key`: how many tasks with one
    `concurrency_key` may be with agents while one of this queue is granted.
    """

    paused: bool | msgspec.UnsetType = msgspec.UNSET
    max_running: MaxRunning | msgspec.UnsetType | None = msgspec.UNSET
    rate_per_second: Rate | msgspec.UnsetType | None = msgspec.UNSET
    max_running_per_key: PerKey | msgspec.UnsetType = msgspec.UNSET
    if_revision: Annotated[int, msgspec.Meta(ge=0)] | None = None


class QueueView(msgspec.Struct):
    """A queue. `held` are the tasks that count against `max_running`: assigned, running, and stopped ones whose agent
    has not confirmed. The age of the oldest pending task counts from its creation; null without one."""

    name: str
    project: str
    paused: bool
    max_running: int | None
    rate_per_second: float | None
    max_running_per_key: int
    held: int
    counts: dict[str, int]
    oldest_pending_at: str | None
    oldest_pending_age_ms: int | None
    revision: int
    created_revision: int


def queue_view(view: View, project: Project, name: str, now_ms: int, known: Queue | None = None) -> QueueView | None:
    """The queue as shown; None when neither a task nor a setting names it."""
    pending = counters.read(view, project.number).get(_counter(name), 0)
    return _shown(view, project, name, known or queues.get(view, project.number, name), pending, now_ms)


def _shown(view: View, project: Project, name: str, known: Queue | None, pending: int, now_ms: int) -> QueueView | None:
    if known is None and not pending:
        return None
    number = queues.oldest_pending(view, project.number, name) if pending else None
    oldest = None if number is None else task_record.get(view, project.number, number)
    if known is None:
        known = queues.unwritten(view, project.number, name)
    counts = {state.value: pending if state is TaskState.PENDING else known.count(state) for state in TaskState}
    return QueueView(
        name=name,
        project=project.name,
        paused=known.paused,
        max_running=known.max_running,
        rate_per_second=None if known.rate_milli is None else known.rate_milli / MILLI,
        max_running_per_key=known.max_running_per_key,
        held=known.held,
        counts=counts,
        oldest_pending_at=None if oldest is None else text_or_none(oldest.created_at),
        oldest_pending_age_ms=None if oldest is None else max(0, now_ms - oldest.created_at),
        revision=known.revision,
        created_revision=known.created_revision,
    )


def _counter(name: str) -> str:
    return f"queue.{name}.pending"


async def list_queues(request: Request[ListQueues, Any]) -> Reply:
    """Every queue that a task or a setting names, by name."""
    after = name_of(request, _KIND)
    builder = PageBuilder(request, QueueView)
    with request.view() as view:
        rows = list(_rows(request, view, after))
        ended = fill(builder, ((place, row) for place, (_, row) in enumerate(rows)), lambda row: row())
    if ended or builder.position is None:
        return builder.reply(None)
    return builder.reply(encode_cursor(request, _KIND, builder.position, rows[builder.position][0]))


def _rows(request: Request[ListQueues, Any], view: View, after: str | None) -> Iterator[tuple[str, Any]]:
    """(name, what shows the queue) behind a name."""
    project, descending = request.require_project(view), request.query.order == "desc"
    pending = queues.pending_counts(counters.read(view, project.number))
    known = {queue.queue: queue for queue in queues.scan(view, project.number)}
    now_ms = request.api.replica.now_ms()
    for name in sorted(pending.keys() | known.keys(), reverse=descending):
        if after is None or (name < after if descending else name > after):
            yield name, lambda name=name: _shown(view, project, name, known.get(name), pending.get(name, 0), now_ms)


async def get_queue(request: Request[ReadQuery, Any]) -> Reply:
    """One queue."""
    name = request.parameters["queue"]
    with request.view() as view:
        project = request.require_project(view)
        shown = queue_view(view, project, name, request.api.replica.now_ms())
        if shown is None:
            raise Problem("not_found", f"no task and no setting names queue {name!r} here at revision {view.revision}")
        return json_reply(shown)


async def patch_queue(request: Request[WriteQuery, QueuePatch]) -> Reply:
    """Pause or resume a queue, set or lift its limits; it need not have a task yet."""
    patch, values = request.body, dict[str, Any]()
    for field in ("paused", "max_running", "max_running_per_key"):
        if getattr(patch, field) is not msgspec.UNSET:
            values[field] = getattr(patch, field)
    if patch.rate_per_second is not msgspec.UNSET:
        values["rate_milli"] = None if patch.rate_per_second is None else round(patch.rate_per_second * MILLI)
    command = UpdateQueue(request.parameters["queue"], tuple(values), if_revision=patch.if_revision, **values)

    def render(view: View, item: Item) -> QueueView | None:
        project = request.require_project(view)
        return queue_view(view, project, item.resource_id, request.api.replica.now_ms(), record_of(item))

    return await write(request, command, render)


_ONE = "/api/queues/{queue}"

ROUTES = (
    Route(
        "GET", "/api/queues", list_queues, "Queues with their counts and limits", "queues:read",
        query=ListQueues, reply=Page[QueueView],
    ),
    Route("GET", _ONE, get_queue, "One queue", "queues:read", query=ReadQuery, reply=QueueView),
    Route(
        "PATCH", _ONE, patch_queue, "Pause, resume, limit", "queues:write",
        query=WriteQuery, body=QueuePatch, reply=QueueView,
    ),
)  # fmt: skip
