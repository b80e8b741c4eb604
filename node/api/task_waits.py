"""Routes that park tasks, for their agents, and resume them, for whoever has the answer."""

from __future__ import annotations

from typing import Any

from cluster.replica import View
from node.api.batches import BatchReply, batch_reply, check_count
from node.api.query import BatchQuery, WriteQuery
from node.api.reply import Reply
from node.api.request import Request
from node.api.route import Route
from node.api.task_views import TaskView, shown_attempt, shown_item
from node.api.task_wait_bodies import ResumeBatch, ResumeBody, WaitBatch, WaitBody, parked, resumption
from node.api.writes import Render, propose, refusal_of, write
from statemachine.commands import Command, ParkTasks, ResumeTasks
from statemachine.outcome import Item


def _show(request: Request[Any, Any]) -> Render:
    def render(view: View, item: Item) -> TaskView | None:
        return shown_item(request, view, item)

    return render


async def wait_task(request: Request[WriteQuery, WaitBody]) -> Reply:
    """Park the task: its slot is free, its lease counts no more, and the next attempt goes on from the checkpoint."""
    body = request.body
    item = parked(request.parameters["task_id"], body, "")

    def show(view: View, item: Item) -> TaskView | None:
        return shown_attempt(request, view, item)

    return await write(request, ParkTasks(body.agent_id, (item,), body.epoch), show)


async def resume_task(request: Request[WriteQuery, ResumeBody]) -> Reply:
    """Answer what the task waits for, or will wait for: it is pending again, now or then."""
    item = resumption(request.parameters["task_id"], request.body, "")
    return await write(request, ResumeTasks((item,)), _show(request))


async def _write_many(request: Request[BatchQuery, Any], command: Command, ids: list[str]) -> Reply:
    outcome = (await propose(request, command))[0]
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    return batch_reply(request, outcome, ids, _show(request) if request.query.returned == "full" else None)


async def wait_tasks(request: Request[BatchQuery, WaitBatch]) -> Reply:
    """Park many tasks."""
    body = request.body
    check_count(len(body.items))
    items = tuple([parked(item.task_id, item, f"items[{number}].") for number, item in enumerate(body.items)])
    return await _write_many(request, ParkTasks(body.agent_id, items, body.epoch), [item.task_id for item in items])


async def resume_tasks(request: Request[BatchQuery, ResumeBatch]) -> Reply:
    """Answer for many tasks."""
    listed = request.body.items
    check_count(len(listed))
    items = tuple([resumption(item.task_id, item, f"items[{number}].") for number, item in enumerate(listed)])
    return await _write_many(request, ResumeTasks(items), [item.task_id for item in items])


_ONE = "/api/tasks/{task_id}"

ROUTES = (
    Route(
        "POST", _ONE + "/wait", wait_task, "Park a task until a person, an event or a time", "tasks:work",
        query=WriteQuery, body=WaitBody, reply=TaskView,
    ),
    Route(
        "POST", _ONE + "/resume", resume_task, "Answer what a task waits for", "tasks:write",
        query=WriteQuery, body=ResumeBody, reply=TaskView,
    ),
    Route(
        "POST", "/api/tasks/wait", wait_tasks, "Park many tasks", "tasks:work",
        query=BatchQuery, body=WaitBatch, reply=BatchReply, batch=True,
    ),
    Route(
        "POST", "/api/tasks/resume", resume_tasks, "Answer what many tasks wait for", "tasks:write",
        query=BatchQuery, body=ResumeBatch, reply=BatchReply, batch=True,
    ),
)  # fmt: skip
