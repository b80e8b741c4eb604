"""Renewals and progress: signs that an attempt goes on, kept in the leader's memory; a checkpoint makes it durable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cluster.replica import CallFailedError
from node.api.batches import BatchItem, check_count, refused_batch_item
from node.api.body import anything
from node.api.callers import check_caller
from node.api.problem import from_refusal
from node.api.query import WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.task_bodies import ten_thousandths
from node.api.task_verb_bodies import ProgressBatch, ProgressBody, ProgressFields, RenewBatch, RenewBody
from node.api.unlogged import check_headers
from node.api.writes import propose, refusal_of, replay_headers
from node.duties.duties import Duties
from node.duties.messages import Beat, BeatAnswer, Running
from statemachine import limits, projects, task_record, task_store
from statemachine.commands import Checkpoint, CheckpointTasks
from statemachine.outcome import Outcome, Refusal, Refused
from statemachine.task_states import STOPPED
from statemachine.task_verbs import holds, stale


class LeaseView(msgspec.Struct):
    """What is left of a lease. `durable` false: only the leader remembers it."""

    task_id: str
    attempt: int
    lease_remaining_ms: int | None
    durable: bool
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET


class LeaseBatch(msgspec.Struct):
    """Leases in the order of the request, as `body` of each item."""

    revision: int
    items: list[BatchItem]
    durable: bool
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET


async def _signal(request: Request[Any, Any], running: Sequence[Running]) -> list[int | Refusal]:
    """Renew at the leader: what is left of each lease, milliseconds, or why it is none.

    Raises Problem `stale_epoch`, `unknown_project`, and the replica's errors.
    """
    body, calls = request.body, request.api.part(Duties).calls
    beat = Beat(body.agent_id, body.epoch, tuple(running))
    answer = await calls.beat(beat)
    left = _left(answer)
    if not answer.code and all(_key(item) in left for item in running):
        return [left[_key(item)] for item in running]
    # Memory may be behind: whoever is about to hear that it must stop is looked up in the state first.
    await request.api.replica.read_barrier(max(request.seconds_left(), 1.0))
    with request.view() as view:
        request.require_project(view)
    if answer.code == "stale_epoch":
        await check_caller(request, body.agent_id, body.epoch)
    refusals = [_refusal(request, item) for item in running]
    if not all(refusals):
        left = _left(await calls.beat(beat))
    return [
        refusal or _remaining_or_refusal(request, item, left) for item, refusal in zip(running, refusals, strict=True)
    ]


def _remaining_or_refusal(
    request: Request[Any, Any], item: Running, left: dict[tuple[str, str, int], int]
) -> int | Refusal:
    remaining = left.get(_key(item))
    if remaining is not None:
        return remaining
    refusal = _refusal(request, item)
    if refusal is None:
        raise CallFailedError("the leader does not know of this grant yet")
    return refusal


def _key(item: Running) -> tuple[str, str, int]:
    return (item.project or "", item.task_id, item.attempt)


def _left(answer: BeatAnswer) -> dict[tuple[str, str, int], int]:
    return {
        (lease.project, lease.task_id, lease.attempt): lease.remaining_ms
        for lease in answer.leases
        if lease.status not in STOPPED
    }


def _refusal(request: Request[Any, Any], item: Running) -> Refusal | None:
    """Why the caller does not hold this attempt, by this node's state."""
    with request.view() as view:
        project = projects.find(view, request.project)
        task = None if project is None else task_record.find(view, project.number, item.task_id)
    if task is None:
        refused: Refused = task_store.not_found(item.task_id)
    elif holds(task, request.body.agent_id, item.attempt):
        return None
    else:
        refused = stale(task)
    return Refusal(refused.code, refused.detail, refused.current)


def _running(request: Request[Any, Any], task_id: str, body: Any) -> Running:
    fraction, message = getattr(body, "fraction", None), getattr(body, "message", None)
    shown = None if fraction is None else ten_thousandths(fraction)
    return Running(task_id, body.attempt, request.project, shown, message)


# --- single calls -----------------------------------------------------------------------------------------------------


async def renew_task(request: Request[WriteQuery, Any]) -> Reply:
    """Extend the lease."""
    task_id = request.parameters["task_id"]
    await check_headers(request)
    (result,) = await _signal(request, [_running(request, task_id, request.body)])
    if isinstance(result, Refusal):
        raise from_refusal(result, request.api.replica.revision)
    return _lease_reply(request, result, durable=False)


async def report_progress(request: Request[WriteQuery, ProgressBody]) -> Reply:
    """Say how far it is; this extends the lease too."""
    body, task_id = request.body, request.parameters["task_id"]
    checkpoint = _checkpoint(task_id, body, "")
    if checkpoint is None:
        return await renew_task(request)
    outcome = await _keep(request, [checkpoint])
    item = outcome.items[0]
    if item.refusal is not None:
        raise from_refusal(item.refusal, outcome.revision)
    (remaining,) = await _remaining(request, [Running(task_id, body.attempt, request.project)])
    return _lease_reply(request, remaining, durable=True, headers=replay_headers(outcome))


def _lease_reply(
    request: Request[Any, Any], remaining_ms: int | None, *, durable: bool, headers: tuple[tuple[str, str], ...] = ()
) -> Reply:
    warnings = request.warnings or msgspec.UNSET
    view = LeaseView(request.parameters["task_id"], request.body.attempt, remaining_ms, durable, warnings)
    return json_reply(view, 200, headers)


def _checkpoint(task_id: str, body: ProgressFields, path: str) -> Checkpoint | None:
    data = anything(body.checkpoint, f"{path}checkpoint", "checkpoint_bytes_max", limits.CHECKPOINT_BYTES_MAX)
    if data is None:
        return None
    fraction = None if body.fraction is None else ten_thousandths(body.fraction)
    return Checkpoint(task_id, body.attempt, fraction, body.message, data)


async def _keep(request: Request[Any, Any], checkpoints: Sequence[Checkpoint]) -> Outcome:
    command = CheckpointTasks(request.body.agent_id, tuple(checkpoints), request.body.epoch)
    outcome = (await propose(request, command))[0]
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    return outcome


async def _remaining(request: Request[Any, Any], running: Sequence[Running]) -> list[int | None]:
    """What is left of the leases, renewed; None where the leader did not answer: the checkpoint is kept."""
    body = request.body
    try:
        answer = await request.api.part(Duties).calls.beat(Beat(body.agent_id, body.epoch, tuple(running)))
    except CallFailedError:
        return [None] * len(running)
    left = _left(answer)
    return [left.get(_key(item)) for item in running]


# --- batches ----------------------------------------------------------------------------------------------------------


async def renew_tasks(request: Request[WriteQuery, RenewBatch]) -> Reply:
    """Extend many leases."""
    items = request.body.items
    check_count(len(items))
    await check_headers(request)
    running = [_running(request, item.task_id, item) for item in items]
    results = await _signal(request, running)
    shown = [_shown(item, result, durable=False) for item, result in zip(running, results, strict=True)]
    return _batch_reply(request, shown, durable=False)


async def report_progress_of_many(request: Request[WriteQuery, ProgressBatch]) -> Reply:
    """Say of many attempts how far they are; `durable` tells, item by item, which were kept in the log."""
    items = request.body.items
    check_count(len(items))
    kept = {
        number: checkpoint
        for number, item in enumerate(items)
        if (checkpoint := _checkpoint(item.task_id, item, f"items[{number}].")) is not None
    }
    results: dict[int, int | Refusal | None] = {}
    await check_headers(request)
    if kept:
        outcome = await _keep(request, list(kept.values()))
        held = {number: item for number, item in zip(kept, outcome.items, strict=True) if item.refusal is None}
        results.update((number, item.refusal) for number, item in zip(kept, outcome.items, strict=True))
        again = [Running(items[number].task_id, items[number].attempt, request.project) for number in held]
        results.update(zip(held, await _remaining(request, again), strict=True))
    others = [number for number in range(len(items)) if number not in kept]
    if others:
        running = [_running(request, items[number].task_id, items[number]) for number in others]
        signalled = await _signal(request, running)
        results.update(zip(others, signalled, strict=True))
    shown = [
        _shown(Running(item.task_id, item.attempt), results[number], durable=number in kept)
        for number, item in enumerate(items)
    ]
    return _batch_reply(request, shown, durable=not others)


def _shown(item: Running, result: int | Refusal | None, *, durable: bool) -> BatchItem:
    if isinstance(result, Refusal):
        return refused_batch_item(result, item.task_id)
    return BatchItem(200, item.task_id, body=LeaseView(item.task_id, item.attempt, result, durable))


def _batch_reply(request: Request[Any, Any], items: list[BatchItem], *, durable: bool) -> Reply:
    warnings = request.warnings or msgspec.UNSET
    return json_reply(LeaseBatch(request.api.replica.revision, items, durable, warnings))


_ONE = "/api/tasks/{task_id}"

ROUTES = (
    Route(
        "POST", _ONE + "/renew", renew_task, "Extend a lease", "tasks:work",
        query=WriteQuery, body=RenewBody, reply=LeaseView, lenient=True,
    ),
    Route(
        "POST", _ONE + "/progress", report_progress, "Say how far an attempt is", "tasks:work",
        query=WriteQuery, body=ProgressBody, reply=LeaseView, lenient=True,
    ),
    Route(
        "POST", "/api/tasks/renew", renew_tasks, "Extend many leases", "tasks:work",
        query=WriteQuery, body=RenewBatch, reply=LeaseBatch, lenient=True, batch=True,
    ),
    Route(
        "POST", "/api/tasks/progress", report_progress_of_many, "Say how far many attempts are", "tasks:work",
        query=WriteQuery, body=ProgressBatch, reply=LeaseBatch, lenient=True, batch=True,
    ),
)  # fmt: skip
