"""Claims: the pull way to work. The leader picks tasks and keeps them for a moment; this node then claims them."""

from __future__ import annotations

from time import monotonic
from typing import Annotated, Any

import msgspec

from cluster.replica import CallFailedError, View
from node.api.body import Body, Count
from node.api.callers import check_caller
from node.api.ids import Id
from node.api.problem import Problem
from node.api.query import WaitMs, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.task_bodies import LeaseMs
from node.api.task_views import GrantView, find_task, grant_view
from node.api.unlogged import BARRIER_S_MIN, check_headers
from node.api.waits import guarded
from node.api.writes import idempotency_of, propose, refusal_of, refused_item, replay_headers
from node.duties.duties import Duties
from node.duties.messages import ClaimReply, ClaimRequest
from statemachine import idempotency, limits, projects
from statemachine.commands import ClaimTasks
from statemachine.outcome import Item, Outcome

QUEUES_MAX = 100
DISAGREEMENTS_MAX = 3
"""How often the leader's memory may contradict the state before the caller is told to try again later."""


class ClaimBody(Body):
    """`POST /api/tasks/claim`. `queues` absent: all."""

    agent_id: Id
    epoch: Count
    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_CONCURRENT_MAX)] = 1
    wait_ms: WaitMs = 0
    queues: Annotated[list[Id], msgspec.Meta(max_length=QUEUES_MAX)] | None = None
    lease_ms: LeaseMs | None = None


class ClaimOneBody(Body):
    """`POST /api/tasks/{id}/claim`."""

    agent_id: Id
    epoch: Count
    lease_ms: LeaseMs | None = None


class Grants(msgspec.Struct):
    """Granted tasks."""

    items: list[GrantView]


async def claim_tasks(request: Request[WriteQuery, ClaimBody]) -> Reply:
    """Take tasks that fit, up to the free slots; waits for the first one."""
    body, clock = request.body, request.api.part(Duties).clock
    give_up_s = clock.monotonic_s() + body.wait_ms / 1_000
    await _check_project(request)
    if not _was_claimed(request, 0):
        await check_headers(request)
    position = 0
    while True:
        picked: tuple[str, ...] = ()
        if not _was_claimed(request, position):
            picked = await _pick(request, max(0, round((give_up_s - clock.monotonic_s()) * 1_000)))
            if not picked and clock.monotonic_s() < give_up_s:
                continue
            if not picked and not await _was_claimed_elsewhere(request, position):
                return json_reply(Grants([]))
        request.deadline_s = monotonic() + request.query.timeout_ms / 1_000
        command = ClaimTasks(body.agent_id, body.epoch, picked, lease_ms=body.lease_ms)
        outcome = (await propose(request, command, first_position=position))[0]
        if outcome.refusal is not None:
            raise refusal_of(outcome)
        items = [item for item in outcome.items if item.status == 200]
        if items:
            return _granted(request, outcome, items)
        # Others were faster. Under an Idempotency-Key every try has a place of its own, so that a repeat finds it.
        position += 1


async def _pick(request: Request[WriteQuery, ClaimBody], wait_ms: int) -> tuple[str, ...]:
    """Ids that the leader keeps for this agent; empty when there are none for now."""
    body, duties = request.body, request.api.part(Duties)
    wait_ms = min(wait_ms, duties.settings.claim_slice_ms)
    queues = None if body.queues is None else tuple(body.queues)
    wanted = ClaimRequest(body.agent_id, body.epoch, request.project, body.limit, queues, wait_ms)
    for _ in range(DISAGREEMENTS_MAX):
        reply: ClaimReply
        if wait_ms:
            reply = await guarded(request, duties.calls.claim(wanted), wait_ms / 1_000)
        else:
            reply = await duties.calls.claim(wanted)
        if reply.code == "overloaded":
            raise Problem("overloaded", "too many claims wait already")
        if not reply.code:
            return reply.task_ids
        await check_caller(request, body.agent_id, body.epoch)
    raise CallFailedError("the leader does not know this agent yet")


def _was_claimed(request: Request[WriteQuery, ClaimBody], position: int) -> bool:
    """Whether this is a repeat that was decided already: then no further tasks are kept for it."""
    header = request.header("Idempotency-Key")
    if header is None:
        return False
    key = idempotency_of(request, header, None, position)
    with request.view() as view:
        project = request.require_project(view)
        return idempotency.find(view, project.number, key.key_hash) is not None


async def _was_claimed_elsewhere(request: Request[Any, Any], position: int) -> bool:
    """As `_was_claimed`, by a linearizable read: before a repeat is told that there is nothing for it."""
    if request.header("Idempotency-Key") is None:
        return False
    await request.api.replica.read_barrier(max(request.seconds_left(), BARRIER_S_MIN))
    return _was_claimed(request, position)


async def _check_project(request: Request[Any, Any]) -> None:
    with request.view() as view:
        known = projects.find(view, request.project) is not None
    if not known and request.project != projects.DEFAULT_PROJECT:
        await request.api.replica.read_barrier(request.seconds_left())
        with request.view() as view:
            request.require_project(view)


def _granted(request: Request[Any, Any], outcome: Outcome, items: list[Item]) -> Reply:
    with request.view() as view:
        grants = [_grant(request, view, item) for item in items]
    return json_reply(Grants(grants), 200, replay_headers(outcome))


def _grant(request: Request[Any, Any], view: View, item: Item) -> GrantView:
    """The task as granted; for a repeat, attempt and revision of the first answer."""
    task = find_task(request, view, item.resource_id)
    grant = grant_view(view, task, task.grant_ms)
    grant.attempt, grant.revision = item.numbers[0], item.revision
    return grant


async def claim_one(request: Request[WriteQuery, ClaimOneBody]) -> Reply:
    """Take this task, or hear why not."""
    body = request.body
    command = ClaimTasks(
        body.agent_id, body.epoch, (request.parameters["task_id"],), named=True, lease_ms=body.lease_ms
    )
    outcome = (await propose(request, command))[0]
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    item = outcome.items[0]
    if item.refusal is not None:
        raise refused_item(outcome, item)
    with request.view() as view:
        grant = _grant(request, view, item)
    return json_reply(grant, 200, replay_headers(outcome))


ROUTES = (
    Route(
        "POST", "/api/tasks/claim", claim_tasks, "Take tasks that fit, at once or when there are some", "tasks:work",
        query=WriteQuery, body=ClaimBody, reply=Grants, waits=True,
    ),
    Route(
        "POST", "/api/tasks/{task_id}/claim", claim_one, "Take one named task", "tasks:work",
        query=WriteQuery, body=ClaimOneBody, reply=GrantView,
    ),
)  # fmt: skip
