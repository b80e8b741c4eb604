"""Routes of tasks (API.md section 4) for those who submit them; `task_reads` shows them, `task_verbs` is for agents."""

from __future__ import annotations

from typing import Any

from cluster.replica import View
from node.api.batches import BatchReply, batch_reply, check_count
from node.api.problem import FieldError, Problem, from_refusal
from node.api.query import BatchQuery, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.task_bodies import AssignBody, TaskBatch, TaskBody, TaskPatch, new_task
from node.api.task_edits import patch_task
from node.api.task_views import TaskView, shown_item, task_view
from node.api.writes import gone, propose, replay_headers, write
from node.duties.duties import Duties
from node.duties.settings import tuned
from statemachine import settings
from statemachine.commands import AssignTask, CancelTask, RetryTask, SubmitTasks
from statemachine.outcome import Item, Outcome, Refusal, record_of

_LOCATION = "/api/tasks/"


async def create_task(request: Request[WriteQuery, TaskBody]) -> Reply:
    """Submit a task."""
    command = SubmitTasks((new_task(request.body, ""),))
    outcome = (await propose(request, command))[0]
    item = outcome.items[0] if outcome.items else Item(0)
    refusal = outcome.refusal or item.refusal
    if refusal is not None:
        raise _submit_problem(refusal, outcome, "items[0].")
    body = _made(item)
    if body is None:
        with request.view() as view:
            body = shown_item(request, view, item)
    headers = replay_headers(outcome)
    if item.status == 201:
        headers = (*headers, ("Location", _LOCATION + item.resource_id))
    if body is None:
        return json_reply(gone(item), item.status, headers)
    if outcome.replayed:
        body.revision = item.revision
    return json_reply(body, item.status, headers)


def _made(item: Item) -> TaskView | None:
    """The task that was just made, if nothing of it has to be read."""
    task = record_of(item)
    return None if task is None or task.bodies else task_view(None, task)


async def create_tasks(request: Request[BatchQuery, TaskBatch]) -> Reply:
    """Submit many tasks; they may depend on each other in any order."""
    body = request.body
    check_count(len(body.items))
    items = tuple([new_task(item, f"items[{position}].") for position, item in enumerate(body.items)])
    outcome = (await propose(request, SubmitTasks(items, body.atomic)))[0]
    if outcome.refusal is not None:
        raise _submit_problem(outcome.refusal, outcome, "")
    ids = [item.task_id for item in items]
    if request.query.returned == "full":
        return batch_reply(request, outcome, ids, lambda view, item: shown_item(request, view, item))
    return batch_reply(request, outcome, ids)


def _submit_problem(refusal: Refusal, outcome: Outcome, prefix: str) -> Problem:
    """A refused submission. Its paths begin as in a batch: for a single task that `prefix` is taken off."""
    problem = from_refusal(refusal, outcome.revision)
    problem.headers = replay_headers(outcome)
    if prefix:
        problem.detail = problem.detail.replace(prefix, "")
    if refusal.current is not None and "errors" in refusal.current:
        problem.errors = tuple(
            FieldError(error["path"].removeprefix(prefix), error["message"]) for error in refusal.current["errors"]
        )
        problem.current = None
    return problem


def _show(request: Request[Any, Any]) -> Any:
    def render(view: View, item: Item) -> TaskView | None:
        return shown_item(request, view, item)

    return render


async def cancel_task(request: Request[WriteQuery, Any]) -> Reply:
    """Cancel a task; again: 200."""
    return await write(request, CancelTask(request.parameters["task_id"]), _show(request))


async def retry_task(request: Request[WriteQuery, Any]) -> Reply:
    """Redrive a failed task: pending again, its tries begin anew."""
    return await write(request, RetryTask(request.parameters["task_id"]), _show(request))


async def assign_task(request: Request[WriteQuery, AssignBody]) -> Reply:
    """Offer a task to an agent by hand."""
    with request.view() as view:
        tunable = tuned(request.api.part(Duties).settings, settings.read(view).values)
    command = AssignTask(request.parameters["task_id"], request.body.agent_id, tunable.offer_timeout_ms)
    return await write(request, command, _show(request))


_ONE = "/api/tasks/{task_id}"

ROUTES = (
    Route(
        "POST", "/api/tasks", create_task, "Submit a task", "tasks:write",
        query=WriteQuery, body=TaskBody, reply=TaskView, statuses=(201, 200),
    ),
    Route(
        "POST", "/api/tasks/batch", create_tasks, "Submit many tasks", "tasks:write",
        query=BatchQuery, body=TaskBatch, reply=BatchReply, batch=True,
    ),
    Route(
        "PATCH", _ONE, patch_task, "Change a task (merge patch)", "tasks:write",
        query=WriteQuery, body=TaskPatch, reply=TaskView,
    ),
    Route("DELETE", _ONE, cancel_task, "Cancel a task", "tasks:write", query=WriteQuery, reply=TaskView),
    Route(
        "POST", _ONE + "/retry", retry_task, "Redrive a failed task", "tasks:write",
        query=WriteQuery, reply=TaskView,
    ),
    Route(
        "PUT", _ONE + "/assign", assign_task, "Offer a task to an agent by hand", "tasks:write",
        query=WriteQuery, body=AssignBody, reply=TaskView,
    ),
)  # fmt: skip
