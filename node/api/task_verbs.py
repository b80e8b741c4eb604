"""What the holder of a task says about it: accept, complete, fail, release; singly and in batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from cluster.replica import View
from node.api.batches import BatchReply, batch_reply, check_count
from node.api.body import anything
from node.api.events import new_event
from node.api.problem import invalid
from node.api.query import BatchQuery, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.task_bodies import new_task
from node.api.task_verb_bodies import (
    AcceptBatch,
    AcceptBody,
    CompleteBatch,
    CompleteBody,
    CompleteFields,
    FailBatch,
    FailBody,
    FailFields,
    FollowUpEvent,
    ReleaseBatch,
    ReleaseBody,
    ReleaseFields,
)
from node.api.task_views import GrantView, TaskView, find_task, grant_view, shown_attempt, shown_item
from node.api.usage import artifacts_inside, usage_inside
from node.api.writes import gone, propose, refusal_of, refused_item, replay_headers
from statemachine import limits, projects, task_record
from statemachine.commands import (
    AcceptTasks,
    Command,
    CompleteTasks,
    Completion,
    FailTasks,
    Failure,
    Held,
    NewEvent,
    Release,
    ReleaseTasks,
)
from statemachine.outcome import Item, Outcome

LIVE_TIMEOUT_S = 1.0
RANDOM_BITS = 32


# --- from bodies to commands ------------------------------------------------------------------------------------------


def _completion(request: Request[Any, Any], task_id: str, body: CompleteFields, path: str) -> Completion:
    tasks = tuple([new_task(task, f"{path}tasks[{number}].") for number, task in enumerate(body.tasks)])
    return Completion(
        task_id,
        body.attempt,
        anything(body.result, f"{path}result", "result_bytes_max", limits.PAYLOAD_BYTES_MAX),
        artifacts_inside(body.artifacts),
        usage_inside(body.usage),
        tasks,
        _events_beside(request, task_id, body.events, path) if body.events else (),
    )


def _events_beside(
    request: Request[Any, Any], task_id: str, events: Sequence[FollowUpEvent], path: str
) -> tuple[tuple[str, NewEvent], ...]:
    with request.view() as view:
        project = projects.find(view, request.project)
        task = None if project is None else task_record.find(view, project.number, task_id)
    found: list[tuple[str, NewEvent]] = []
    for number, event in enumerate(events):
        session_id = event.session_id or (None if task is None else task.session_id)
        if session_id is None:
            raise invalid(f"{path}events[{number}].session_id", "must be given: the task has no session")
        found.append((session_id, new_event(event, f"{path}events[{number}].")))
    return tuple(found)


def _failure(task_id: str, body: FailFields) -> Failure:
    usage = usage_inside(body.usage)
    number = random.getrandbits(RANDOM_BITS)
    return Failure(task_id, body.attempt, body.reason, body.message, body.retryable, usage, number)


def _release(task_id: str, body: ReleaseFields, path: str) -> Release:
    checkpoint = anything(body.checkpoint, f"{path}checkpoint", "checkpoint_bytes_max", limits.CHECKPOINT_BYTES_MAX)
    return Release(task_id, body.attempt, checkpoint, body.message)


# --- single calls -----------------------------------------------------------------------------------------------------


async def _say(request: Request[WriteQuery, Any], command: Command) -> tuple[Outcome, Item]:
    outcome = (await propose(request, command))[0]
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    item = outcome.items[0]
    if item.refusal is not None:
        raise refused_item(outcome, item)
    return outcome, item


def _shown(request: Request[WriteQuery, Any], outcome: Outcome, item: Item) -> Reply:
    with request.view() as view:
        body = shown_attempt(request, view, item)
    if body is None:
        return json_reply(gone(item), 200, replay_headers(outcome))
    if request.warnings:
        body.warnings = request.warnings
    return json_reply(body, 200, replay_headers(outcome))


async def accept_task(request: Request[WriteQuery, AcceptBody]) -> Reply:
    """Take an offer; for the holder of the running attempt nothing changes."""
    body, task_id = request.body, request.parameters["task_id"]
    command = AcceptTasks(body.agent_id, (Held(task_id, body.attempt),), body.epoch)
    outcome, item = await _say(request, command)
    with request.view() as view:
        task = task_record.find(view, request.project_number(view), task_id)
    if task is None:
        return json_reply(gone(item), 200, replay_headers(outcome))
    lease_ms: int | None = task.grant_ms
    if outcome.replayed or item.revision != outcome.revision:
        # Not just now: what is left of the lease only the leader knows.
        live = await request.api.live.live_tasks([(request.project, task_id)], LIVE_TIMEOUT_S)
        held = [known for known in live.tasks if known.attempt == body.attempt] if live is not None else []
        lease_ms = held[0].lease_remaining_ms if held else None
    with request.view() as view:
        grant = grant_view(view, find_task(request, view, task_id), lease_ms)
    grant.attempt = body.attempt
    if outcome.replayed:
        grant.revision = item.revision
    return json_reply(grant, 200, replay_headers(outcome))


async def complete_task(request: Request[WriteQuery, CompleteBody]) -> Reply:
    """End the task with its result; follow-up tasks and events come with it or not at all."""
    body = request.body
    item = _completion(request, request.parameters["task_id"], body, "")
    return _shown(request, *await _say(request, CompleteTasks(body.agent_id, (item,), body.epoch)))


async def fail_task(request: Request[WriteQuery, FailBody]) -> Reply:
    """End the attempt without success."""
    body = request.body
    item = _failure(request.parameters["task_id"], body)
    return _shown(request, *await _say(request, FailTasks(body.agent_id, (item,), body.epoch)))


async def release_task(request: Request[WriteQuery, ReleaseBody]) -> Reply:
    """Give the task back, decline its offer, or confirm that it was stopped."""
    body = request.body
    item = _release(request.parameters["task_id"], body, "")
    return _shown(request, *await _say(request, ReleaseTasks(body.agent_id, (item,), body.epoch)))


# --- batches ----------------------------------------------------------------------------------------------------------


async def _say_many(request: Request[BatchQuery, Any], command: Command, ids: list[str]) -> Reply:
    outcome = (await propose(request, command))[0]
    if outcome.refusal is not None:
        raise refusal_of(outcome)

    def show(view: View, item: Item) -> TaskView | None:
        return shown_item(request, view, item)

    return batch_reply(request, outcome, ids, show if request.query.returned == "full" else None)


async def accept_tasks(request: Request[BatchQuery, AcceptBatch]) -> Reply:
    """Take many offers."""
    body = request.body
    check_count(len(body.items))
    items = tuple([Held(item.task_id, item.attempt) for item in body.items])
    return await _say_many(request, AcceptTasks(body.agent_id, items, body.epoch), [item.task_id for item in items])


async def complete_tasks(request: Request[BatchQuery, CompleteBatch]) -> Reply:
    """End many tasks with their results."""
    body = request.body
    check_count(len(body.items))
    items = [_completion(request, item.task_id, item, f"items[{number}].") for number, item in enumerate(body.items)]
    command = CompleteTasks(body.agent_id, tuple(items), body.epoch)
    return await _say_many(request, command, [item.task_id for item in items])


async def fail_tasks(request: Request[BatchQuery, FailBatch]) -> Reply:
    """End many attempts without success."""
    body = request.body
    check_count(len(body.items))
    items = tuple([_failure(item.task_id, item) for item in body.items])
    return await _say_many(request, FailTasks(body.agent_id, items, body.epoch), [item.task_id for item in items])


async def release_tasks(request: Request[BatchQuery, ReleaseBatch]) -> Reply:
    """Give many tasks back."""
    body = request.body
    check_count(len(body.items))
    items = tuple([_release(item.task_id, item, f"items[{number}].") for number, item in enumerate(body.items)])
    return await _say_many(request, ReleaseTasks(body.agent_id, items, body.epoch), [item.task_id for item in items])


_ONE = "/api/tasks/{task_id}"

ROUTES = (
    Route(
        "POST", _ONE + "/accept", accept_task, "Take an offer", "tasks:work",
        query=WriteQuery, body=AcceptBody, reply=GrantView,
    ),
    Route(
        "POST", _ONE + "/complete", complete_task, "End a task with its result", "tasks:work",
        query=WriteQuery, body=CompleteBody, reply=TaskView, lenient=True,
    ),
    Route(
        "POST", _ONE + "/fail", fail_task, "End an attempt without success", "tasks:work",
        query=WriteQuery, body=FailBody, reply=TaskView, lenient=True,
    ),
    Route(
        "POST", _ONE + "/release", release_task, "Give a task back, or decline its offer", "tasks:work",
        query=WriteQuery, body=ReleaseBody, reply=TaskView, lenient=True,
    ),
    Route(
        "POST", "/api/tasks/accept", accept_tasks, "Take many offers", "tasks:work",
        query=BatchQuery, body=AcceptBatch, reply=BatchReply, batch=True,
    ),
    Route(
        "POST", "/api/tasks/complete", complete_tasks, "End many tasks with their results", "tasks:work",
        query=BatchQuery, body=CompleteBatch, reply=BatchReply, lenient=True, batch=True,
    ),
    Route(
        "POST", "/api/tasks/fail", fail_tasks, "End many attempts without success", "tasks:work",
        query=BatchQuery, body=FailBatch, reply=BatchReply, lenient=True, batch=True,
    ),
    Route(
        "POST", "/api/tasks/release", release_tasks, "Give many tasks back", "tasks:work",
        query=BatchQuery, body=ReleaseBatch, reply=BatchReply, lenient=True, batch=True,
    ),
)  # fmt: skip
