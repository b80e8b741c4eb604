"""Heartbeats: the sign of life of an agent, the renewal of its leases, and the way offers reach it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from cluster.replica import View
from node.api.body import Body, Count, OpenObject, absent, open_object
from node.api.callers import stale_epoch, unknown_agent
from node.api.ids import Id
from node.api.query import WaitMs, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.task_bodies import Message, Ratio, ten_thousandths
from node.api.task_views import GrantView, grant_view
from node.api.times import outside
from node.api.unlogged import check_headers
from node.api.waits import guarded
from node.duties import agent_news
from node.duties.agent_news import AgentNews
from node.duties.duties import Duties
from node.duties.messages import BeatAnswer, Running
from node.duties.poll import Attended, Call, StaleEpochError, UnknownAgentError
from statemachine import agent_record, limits, task_store
from statemachine.task_record import Task

_NOTHING_UNREAD = {"unread": 0, "high": 0}


class ProgressBody(Body):
    """How far an attempt is."""

    fraction: Ratio | None = None
    message: Message | None = None


class RunningBody(Body):
    """A task the agent works on. `project`: which of its projects, where two have a task of this id."""

    task_id: Id
    attempt: Count
    project: Id | None = None
    progress: ProgressBody | Ratio | None = None


class HeartbeatBody(Body):
    """`POST /api/agents/{id}/heartbeat`."""

    epoch: Count
    wait_ms: WaitMs = 0
    metrics: OpenObject = absent()
    running: Annotated[list[RunningBody], msgspec.Meta(max_length=limits.MAX_CONCURRENT_MAX)] = []


class HeldView(msgspec.Struct):
    """A task the agent holds."""

    task_id: str
    attempt: int
    status: str
    lease_remaining_ms: int | None
    project: str


class CancelView(msgspec.Struct):
    """Stop this, and confirm it with `release`."""

    task_id: str
    attempt: int
    reason: str
    project: str


class LostView(msgspec.Struct):
    """This is no longer the agent's. `current` is null where there is no such task."""

    task_id: str
    attempt: int
    current: Any


class Heartbeat(msgspec.Struct):
    """What the agent has to hear. `durable` is always false: only the leader remembers a heartbeat."""

    offers: list[GrantView]
    held: list[HeldView]
    cancel: list[CancelView]
    lost: list[LostView]
    drain: bool
    inbox: dict[str, int]
    heartbeat_interval_ms: int
    durable: bool = False
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET


async def heartbeat(request: Request[WriteQuery, HeartbeatBody]) -> Reply:
    """Hear from an agent; with `wait_ms` answer when there is news for it, or when the time is over."""
    duties, call = request.api.part(Duties), _call(request)
    await check_headers(request)
    try:
        attended = await guarded(request, duties.polls.attend(call), call.wait_ms / 1_000)
        return _reply(request, duties, call, attended)
    except UnknownAgentError:
        raise unknown_agent(call.agent_id) from None
    except StaleEpochError as error:
        raise stale_epoch(call.agent_id, error.epoch) from None


def _call(request: Request[WriteQuery, HeartbeatBody]) -> Call:
    body = request.body
    bytes_max = request.api.part(Duties).settings.metrics_bytes_max
    metrics = open_object(body.metrics, "metrics", "metrics_bytes_max", bytes_max)
    running = tuple([_running(item) for item in body.running])
    return Call(request.parameters["agent_id"], body.epoch, request.project, body.wait_ms, metrics, running)


def _running(item: RunningBody) -> Running:
    progress = item.progress if isinstance(item.progress, ProgressBody) else ProgressBody(fraction=item.progress)
    fraction = None if progress.fraction is None else ten_thousandths(progress.fraction)
    return Running(item.task_id, item.attempt, item.project, fraction, progress.message)


def _reply(request: Request[Any, Any], duties: Duties, call: Call, attended: Attended) -> Reply:
    answer, warnings = attended.answer, request.warnings or msgspec.UNSET
    if attended.superseded:
        empty = Heartbeat([], [], [], [], False, _NOTHING_UNREAD, answer.interval_ms, warnings=warnings)
        return json_reply(empty)
    with request.view() as view:
        agent = agent_record.find(view, call.agent_id)
        if agent is None:
            raise UnknownAgentError
        if agent.epoch != call.epoch:
            raise StaleEpochError(agent.epoch)
        news = agent_news.read(view, agent, call.running, call.project)
        shown = _shown(view, news, answer, request.api.replica.now_ms())
    duties.polls.told(agent, news.keys())
    shown.warnings = warnings
    return json_reply(shown)


def _shown(view: View, news: AgentNews, answer: BeatAnswer, now_ms: int) -> Heartbeat:
    left = {(lease.project, lease.task_id, lease.attempt): lease.remaining_ms for lease in answer.leases}

    def remaining(task: Task) -> int | None:
        known = left.get((task.project, task.task_id, task.attempt))
        if known is None and task.started_at is not None:
            # Accepted after the leader answered: its lease began with its start, or a moment later.
            return max(0, task.started_at + task.grant_ms - now_ms)
        return known

    return Heartbeat(
        offers=[_offer(view, task, now_ms) for task in news.offers],
        held=[
            HeldView(task.task_id, task.attempt, task.status.value, remaining(task), task.project)
            for task in (*news.held, *news.stopped)
        ],
        cancel=[CancelView(task.task_id, task.attempt, _why(task), task.project) for task in news.stopped],
        lost=[
            LostView(item.task_id, item.attempt, None if task is None else outside(task_store.current(task)))
            for item, task in news.lost
        ],
        drain=news.agent.draining,
        inbox=_NOTHING_UNREAD,
        heartbeat_interval_ms=answer.interval_ms,
    )


def _offer(view: View, task: Task, now_ms: int) -> GrantView:
    """An offer. Its lease begins when it is accepted, and is then as long as it says here."""
    offer = grant_view(view, task, task.lease_ms)
    granted_at = now_ms if task.granted_at is None else task.granted_at
    offer.offer_expires_in_ms = max(0, granted_at + task.grant_ms - now_ms)
    return offer


def _why(task: Task) -> str:
    """Why a task was stopped: the reason of the transition that did it."""
    for line in reversed(task.history):
        if line.to_state is task.status and line.from_state is not task.status:
            return line.reason or task.status.value
    return task.status.value


ROUTES = (
    Route(
        "POST", "/api/agents/{agent_id}/heartbeat", heartbeat, "A sign of life; waits for work", "agents:work",
        query=WriteQuery, body=HeartbeatBody, reply=Heartbeat, lenient=True, waits=True,
    ),
)  # fmt: skip
