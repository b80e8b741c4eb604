"""What only the leader remembers, as the API asks for it. The duties implement it; without them nothing is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec


class AgentLive(msgspec.Struct, frozen=True):
    """The leader's view of one agent. Times are Unix milliseconds of the cluster's clock.

    `metrics` is the object of its last heartbeat as JSON bytes, empty when it sent none.
    """

    agent_id: str
    last_seen_ms: int | None
    free_slots: int
    open_poll: bool
    metrics: bytes = b""


class TaskLive(msgspec.Struct, frozen=True):
    """The leader's view of one held task: what is left of its lease, and the newest progress kept in memory.

    `fraction` in ten-thousandths.
    """

    project: str
    task_id: str
    attempt: int
    lease_remaining_ms: int | None
    fraction: int | None = None
    message: str | None = None


class AgentPerformance(msgspec.Struct, frozen=True):
    """Figures of one agent over the last minute; None where nothing was reported. `response_time` in seconds."""

    agent_id: str
    active_tasks: int
    tokens_per_second: float | None = None
    response_time: float | None = None
    success_rate: float | None = None
    error_rate: float | None = None
    retry_count: int = 0


class LiveAgents(msgspec.Struct, frozen=True):
    """Agents as the leader saw them at `as_of_ms` (Unix milliseconds, the leader's clock)."""

    as_of_ms: int
    agents: tuple[AgentLive, ...]


class LiveTasks(msgspec.Struct, frozen=True):
    """Held tasks as the leader saw them at `as_of_ms`."""

    as_of_ms: int
    tasks: tuple[TaskLive, ...]


class LivePerformance(msgspec.Struct, frozen=True):
    """The fleet's figures as the leader saw them at `as_of_ms`."""

    as_of_ms: int
    agents: tuple[AgentPerformance, ...]


class Live(Protocol):
    """Answers from the leader's memory; None when there is no leader, or it did not answer in time."""

    async def live_agents(self, agent_ids: Sequence[str] | None, timeout_s: float) -> LiveAgents | None:
        """These agents, or all (None)."""

    async def live_tasks(self, tasks: Sequence[tuple[str, str]], timeout_s: float) -> LiveTasks | None:
        """These tasks, named by (project, task id); those nobody holds are left out."""

    async def performance(self, timeout_s: float) -> LivePerformance | None:
        """All agents' figures."""


class NoLive:
    """Nothing is known: for nodes without duties."""

    async def live_agents(self, _agent_ids: Sequence[str] | None, _timeout_s: float) -> LiveAgents | None:
        return None

    async def live_tasks(self, _tasks: Sequence[tuple[str, str]], _timeout_s: float) -> LiveTasks | None:
        return None

    async def performance(self, _timeout_s: float) -> LivePerformance | None:
        return None


def raw_metrics(live: AgentLive) -> Any:
    """The agent's metrics as it sent them, or null."""
    return msgspec.Raw(live.metrics) if live.metrics else None
