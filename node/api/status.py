"""Routes that say where the cluster stands: consensus, counts, the fleet, and what the last minute was like."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster.replica import View
from node.api.agent_views import AgentLiveView, live_view
from node.api.live import AgentLive, AgentPerformance, LiveAgents, raw_metrics
from node.api.members import MemberView, members_of
from node.api.query import ReadQuery
from node.api.reply import GROUP, Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.times import text, text_or_none
from statemachine import agent_record, counters, idempotency, machine, projects
from statemachine.agent_record import Agent, Load
from statemachine.session_record import SessionStatus
from statemachine.task_states import TaskState

COUNTED: dict[str, tuple[str, ...]] = {
    "sessions": tuple(status.value for status in SessionStatus),
    "tasks": tuple(state.value for state in TaskState),
    "agents": ("online", "draining", "unresponsive", "offline"),
}
"""What is counted, always shown, also when it is zero. Whether an agent is busy is not counted but seen in its load."""

AGENT_STATUSES = ("online", "busy", "draining", "unresponsive", "offline")
LIVE_TIMEOUT_S = 1.0
AGENTS_SHOWN_MAX = 1_000


class GetStatus(ReadQuery, kw_only=True):
    """`live` adds what only the leader knows."""

    live: bool = False


class IdempotencyView(msgspec.Struct):
    """How many keys are remembered, and since when."""

    records: int
    oldest_at: str | None


class FeedView(msgspec.Struct):
    """How far back changes are kept."""

    oldest_revision: int


class ClusterLive(msgspec.Struct):
    """The fleet as the leader saw it at `as_of`."""

    as_of: str
    agents: int
    open_polls: int
    free_slots: int


class ClusterStatus(msgspec.Struct):
    """`GET /api/status/cluster`. `counts`, `idempotency` and `changes` are null on a node whose state is not the
    others': it is not read any more."""

    cluster_id: str
    node_id: str
    role: str
    leader_id: str | None
    term: int
    group: int
    revision: int
    commit_index: int
    applied_index: int
    has_quorum: bool
    version: str
    cluster_version: str
    members: list[MemberView]
    counts: dict[str, dict[str, int]] | None
    idempotency: IdempotencyView | None
    changes: FeedView | None
    alarms: list[str]
    durable_index: int
    last_index: int
    first_index: int
    snapshot_index: int
    log_bytes: int
    lag_ms: int | None
    time: str
    digest: str
    live: ClusterLive | msgspec.UnsetType | None = msgspec.UNSET


class AgentSummary(msgspec.Struct):
    """One agent at a glance; what only the leader knows is null without a leader."""

    agent_id: str
    status: str
    held: int
    max_concurrent: int
    completed: int
    failed: int
    free_slots: int | None
    last_seen: str | None
    metrics: Any
    live: AgentLiveView | msgspec.UnsetType | None = msgspec.UNSET


class AgentsStatus(msgspec.Struct):
    """`GET /api/status/agents`. `truncated` says that there are more than are shown; `/api/agents` lists all."""

    as_of: str | None
    total: int
    counts: dict[str, int]
    items: list[AgentSummary]
    truncated: bool


class PerformanceView(msgspec.Struct):
    """`GET /api/metrics/performance`: this node's last minute, and the fleet's as the leader saw it."""

    as_of: str | None
    window_s: int
    rates: dict[str, float]
    latency_ms: dict[str, float | None]
    queues: dict[str, int]
    agents: list[AgentPerformance] | None


def counts_of(view: View) -> dict[str, dict[str, int]]:
    """How many sessions, tasks and agents are in which status, in the whole cluster."""
    sums = counters.total(view)
    return {noun: {name: sums.get(f"{noun}.{name}", 0) for name in names} for noun, names in COUNTED.items()}


def idempotency_of(view: View) -> IdempotencyView:
    """The records of all projects together."""
    known = list(projects.scan(view))
    oldest = [at for project in known if (at := idempotency.oldest_ms(view, project.number)) is not None]
    return IdempotencyView(
        sum(project.idempotency_records for project in known), text_or_none(min(oldest, default=None))
    )


async def cluster_status(request: Request[GetStatus, Any]) -> Reply:
    """Where this node and its cluster stand."""
    live: ClusterLive | msgspec.UnsetType | None = msgspec.UNSET
    if request.query.live:
        live = _cluster_live(await request.api.live.live_agents(None, LIVE_TIMEOUT_S))
    replica, version = request.api.replica, request.api.version
    status = replica.status()
    with request.view() as view:
        meta = None if replica.out_of_service else machine.read_meta(view)
        shown = ClusterStatus(
            cluster_id=status.cluster_id,
            node_id=status.node_id,
            role=status.role,
            leader_id=status.leader_id,
            term=status.term,
            group=GROUP,
            revision=view.revision,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            has_quorum=status.has_quorum,
            version=version,
            cluster_version=status.cluster_version or version,
            members=members_of(status, version),
            counts=None if meta is None else counts_of(view),
            idempotency=None if meta is None else idempotency_of(view),
            changes=None if meta is None else FeedView(meta.compacted_revision + 1),
            alarms=[*status.alarms, *_defects(0 if meta is None else meta.internal_errors)],
            durable_index=status.durable_index,
            last_index=status.last_index,
            first_index=status.log_first_index,
            snapshot_index=status.snapshot_index,
            log_bytes=status.log_bytes,
            lag_ms=replica.lag_ms(),
            time=text(view.time_ms),
            digest=status.digest,
            live=live,
        )
    return json_reply(shown)


def _cluster_live(live: LiveAgents | None) -> ClusterLive | None:
    if live is None:
        return None
    open_polls = sum(agent.open_poll for agent in live.agents)
    free_slots = sum(agent.free_slots for agent in live.agents)
    return ClusterLive(text(live.as_of_ms), len(live.agents), open_polls, free_slots)


def _defects(count: int) -> list[str]:
    return [f"{count} commands met a defect and were refused as `internal`; see the nodes' logs"] if count else []


async def agents_status(request: Request[GetStatus, Any]) -> Reply:
    """The fleet at a glance."""
    live = await request.api.live.live_agents(None, LIVE_TIMEOUT_S)
    by_id = {} if live is None else {agent.agent_id: agent for agent in live.agents}
    items: list[AgentSummary] = []
    counts = dict.fromkeys(AGENT_STATUSES, 0)
    with request.view() as view:
        for agent in agent_record.scan(view):
            load = agent_record.load_of(view, agent.number)
            status = agent_record.status_of(agent, load)
            counts[status] += 1
            if len(items) < AGENTS_SHOWN_MAX:
                seen = by_id.get(agent.agent_id)
                items.append(_summary(agent, load, status, seen))
                if request.query.live:
                    items[-1].live = None if live is None or seen is None else live_view(live.as_of_ms, seen)
    total = sum(counts.values())
    as_of = None if live is None else text(live.as_of_ms)
    return json_reply(AgentsStatus(as_of, total, counts, items, total > len(items)))


def _summary(agent: Agent, load: Load, status: str, live: AgentLive | None) -> AgentSummary:
    return AgentSummary(
        agent_id=agent.agent_id,
        status=status,
        held=load.held,
        max_concurrent=agent.max_concurrent,
        completed=load.completed,
        failed=load.failed,
        free_slots=None if live is None else live.free_slots,
        last_seen=None if live is None else text_or_none(live.last_seen_ms),
        metrics=None if live is None else raw_metrics(live),
    )


async def performance(request: Request[ReadQuery, Any]) -> Reply:
    """What the last minute was like."""
    live = await request.api.live.performance(LIVE_TIMEOUT_S)
    with request.view() as view:
        tasks = counts_of(view)["tasks"]
    figures = request.api.traffic.minute.figures()
    queues = {name: tasks[name] for name in ("pending", "scheduled", "blocked", "assigned", "running")}
    return json_reply(
        PerformanceView(
            as_of=None if live is None else text(live.as_of_ms),
            window_s=figures.window_s,
            rates=figures.rates,
            latency_ms=figures.latency_ms,
            queues=queues,
            agents=None if live is None else list(live.agents),
        )
    )


ROUTES = (
    Route(
        "GET", "/api/status/cluster", cluster_status, "Consensus and counts", "cluster:read",
        query=GetStatus, reply=ClusterStatus,
    ),
    Route(
        "GET", "/api/status/agents", agents_status, "The fleet at a glance", "agents:read",
        query=GetStatus, reply=AgentsStatus,
    ),
    Route(
        "GET", "/api/metrics/performance", performance, "The last minute", "metrics:read",
        query=ReadQuery, reply=PerformanceView,
    ),
)  # fmt: skip
