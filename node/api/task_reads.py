"""Routes that show tasks: one, with waiting for its start or end; lists; why a task is where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from cluster.replica import View
from node.api.ids import Id
from node.api.pages import Page, page, position_of
from node.api.problem import invalid
from node.api.query import REPEATED, ListQuery, ReadQuery, Text, WaitMs
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.task_explain import Explanation, explain_task
from node.api.task_views import TaskLiveView, TaskView, find_task, live_views, task_view, with_live
from node.api.times import TimeMs
from statemachine import task_queries
from statemachine.task_queries import Page as TaskPage
from statemachine.task_queries import TaskFilter
from statemachine.task_record import Task
from statemachine.task_states import ENDED, TaskState

LIVE_TIMEOUT_S = 1.0
_KIND = "tasks"
_STARTED = ENDED | {TaskState.RUNNING, TaskState.WAITING}

Status = Literal[
    "blocked", "scheduled", "pending", "assigned", "running", "waiting", "completed", "failed", "cancelled", "expired"
]


class ListTasks(ListQuery, kw_only=True):
    """Filters of `GET /api/tasks`; several values of one match any, several filters must all match."""

    status: tuple[Status, ...] = ()
    queue: tuple[Id, ...] = ()
    type: tuple[Text, ...] = ()
    agent_id: tuple[Id, ...] = ()
    session_id: tuple[Id, ...] = ()
    group_id: tuple[Id, ...] = ()
    unique_key: tuple[Text, ...] = ()
    depends_on: tuple[Id, ...] = ()
    label: Annotated[tuple[Text, ...], REPEATED] = ()
    waiting_for: tuple[Text, ...] = ()
    created_since: TimeMs | None = None
    updated_since: TimeMs | None = None
    ids: tuple[Id, ...] = ()
    live: bool = False


class GetTask(ReadQuery, kw_only=True):
    """How to look at one task: `until` with `wait_ms` waits, `live` adds what only the leader knows."""

    until: Literal["started", "ended"] | None = None
    wait_ms: WaitMs = 0
    live: bool = False


async def get_task(request: Request[GetTask, Any]) -> Reply:
    """One task, at once or when it has started or ended; answers with whatever there is when the time is over."""
    query, task_id = request.query, request.parameters["task_id"]
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + query.wait_ms / 1_000
    wanted = ENDED if query.until == "ended" else _STARTED
    while query.until is not None:
        with request.view() as view:
            if find_task(request, view, task_id).status in wanted:
                break
        wait_s = give_up_s - loop.time()
        topics = (f"task.{task_id}",)
        if await request.api.wakeups.wait(request.project, topics, wait_s, request.connection) is None:
            break
    live: dict[tuple[str, str], TaskLiveView] = {}
    if query.live:
        live = live_views(await request.api.live.live_tasks([(request.project, task_id)], LIVE_TIMEOUT_S))
    with request.view() as view:
        shown = task_view(view, find_task(request, view, task_id))
    if query.live:
        with_live(shown, live.get((request.project, task_id)))
    return json_reply(shown)


async def list_tasks(request: Request[ListTasks, Any]) -> Reply:
    """Tasks, newest first."""
    query = request.query
    wanted = _filter_of(query)
    position = position_of(request, _KIND)
    live: dict[tuple[str, str], TaskLiveView] = {}
    if query.live:
        with request.view() as view:
            keys = _held_keys(request, view, wanted, position)
        live = live_views(await request.api.live.live_tasks(keys, LIVE_TIMEOUT_S))
    with request.view() as view:

        def render(task: Task) -> TaskView:
            shown = task_view(view, task)
            return with_live(shown, live.get((task.project, task.task_id))) if query.live else shown

        return page(request, _KIND, _rows(request, view, wanted, position), render, TaskView)


def _rows(
    request: Request[ListTasks, Any], view: View, wanted: TaskFilter, position: int | None
) -> Iterator[tuple[int, Task | None]]:
    part = TaskPage(ascending=request.query.order == "asc")
    if position is not None:
        part = TaskPage(after=position, ascending=True) if part.ascending else TaskPage(before=position)
    return task_queries.list_tasks(view, request.require_project(view).number, wanted, part)


def _held_keys(
    request: Request[ListTasks, Any], view: View, wanted: TaskFilter, position: int | None
) -> list[tuple[str, str]]:
    """Tasks of the page that somebody holds: the leader is asked before the page is made, for views end at an await."""
    tasks = [row for _, row in _limited(_rows(request, view, wanted, position), request.query.limit)]
    return [(task.project, task.task_id) for task in tasks if task.holder_no]


def _limited(rows: Iterator[tuple[int, Task | None]], count_max: int) -> Iterator[tuple[int, Task]]:
    count = 0
    for number, row in rows:
        if row is not None:
            yield number, row
            count += 1
            if count == count_max:
                return


def _filter_of(query: ListTasks) -> TaskFilter:
    labels = []
    for label in query.label:
        name, separator, value = label.partition("=")
        if not separator or not name:
            raise invalid("label", "must be name=value")
        labels.append((name, value))
    return TaskFilter(
        status=query.status or None,
        queue=query.queue or None,
        type=query.type or None,
        agent_id=query.agent_id or None,
        session_id=query.session_id or None,
        group_id=query.group_id or None,
        unique_key=query.unique_key or None,
        depends_on=query.depends_on or None,
        ids=query.ids or None,
        label=tuple(labels),
        created_since=query.created_since,
        updated_since=query.updated_since,
        waiting_for=query.waiting_for or None,
    )


_ONE = "/api/tasks/{task_id}"

ROUTES = (
    Route("GET", "/api/tasks", list_tasks, "List tasks", "tasks:read", query=ListTasks, reply=Page[TaskView]),
    Route(
        "GET", _ONE, get_task, "One task; `until` waits for its start or end", "tasks:read",
        query=GetTask, reply=TaskView, waits=True,
    ),
    Route(
        "GET", _ONE + "/explain", explain_task, "Why a task is where it is, and who could take it", "tasks:read",
        query=ReadQuery, reply=Explanation,
    ),
)  # fmt: skip
