"""`node.api.live.Live` from the leader's memory, wherever the leader is."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cluster.replica import CallFailedError
from node.api.live import AgentLive, AgentPerformance, LiveAgents, LivePerformance, LiveTasks, TaskLive
from node.duties.leader_calls import LeaderCalls
from node.duties.messages import LiveAgent, LiveReply, LiveRequest


class _Figures(msgspec.Struct):
    """What performance figures take from a heartbeat's metrics, if they are numbers there."""

    tokens_per_second: float | None = None
    response_time: float | None = None


_figures = msgspec.json.Decoder(_Figures)


class LiveMemory:
    """Asks the leader; None when it does not answer."""

    def __init__(self, calls: LeaderCalls) -> None:
        self._calls = calls

    async def live_agents(self, agent_ids: Sequence[str] | None, timeout_s: float) -> LiveAgents | None:
        """These agents, or all (None)."""
        request = LiveRequest(agents=tuple(agent_ids or ()), everything=agent_ids is None)
        reply = await self._ask(request, timeout_s)
        return None if reply is None else LiveAgents(reply.as_of_ms, tuple(_agent(agent) for agent in reply.agents))

    async def live_tasks(self, tasks: Sequence[tuple[str, str]], timeout_s: float) -> LiveTasks | None:
        """These tasks, named by (project, task id); those nobody holds are left out."""
        reply = await self._ask(LiveRequest(tasks=tuple(tasks)), timeout_s)
        if reply is None:
            return None
        found = [
            TaskLive(task.project, task.task_id, task.attempt, task.remaining_ms, task.fraction, task.message)
            for task in reply.tasks
        ]
        return LiveTasks(reply.as_of_ms, tuple(found))

    async def performance(self, timeout_s: float) -> LivePerformance | None:
        """All agents' figures."""
        reply = await self._ask(LiveRequest(everything=True), timeout_s)
        if reply is None:
            return None
        return LivePerformance(reply.as_of_ms, tuple(_performance(agent) for agent in reply.agents))

    async def one(
        self, agent_id: str, timeout_s: float
    ) -> tuple[int, AgentLive | None, AgentPerformance | None] | None:
        """(as of, agent, its figures) of one agent; None without a leader."""
        reply = await self._ask(LiveRequest(agents=(agent_id,)), timeout_s)
        if reply is None:
            return None
        if not reply.agents:
            return reply.as_of_ms, None, None
        return reply.as_of_ms, _agent(reply.agents[0]), _performance(reply.agents[0])

    async def _ask(self, request: LiveRequest, timeout_s: float) -> LiveReply | None:
        try:
            return await self._calls.live(request, timeout_s)
        except CallFailedError:
            return None


def _agent(agent: LiveAgent) -> AgentLive:
    return AgentLive(agent.agent_id, agent.seen_ms, agent.slots_free, agent.poll_open, agent.metrics or b"")


def _performance(agent: LiveAgent) -> AgentPerformance:
    figures = _read_figures(agent.metrics)
    ended = agent.completed + agent.failed
    return AgentPerformance(
        agent.agent_id,
        agent.slots_used,
        figures.tokens_per_second,
        figures.response_time,
        agent.completed / ended if ended else None,
        agent.failed / ended if ended else None,
        agent.retried,
    )


def _read_figures(metrics: bytes | None) -> _Figures:
    try:
        return _figures.decode(metrics) if metrics else _Figures()
    except msgspec.DecodeError:
        # Metrics take anything: what is no number there is no figure here.
        return _Figures()
