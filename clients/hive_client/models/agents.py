"""Agents and heartbeats as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict

from hive_client.models.record import Record
from hive_client.models.tasks import Grant


class AgentStatus(StrEnum):
    """What an agent is able to do now."""

    ONLINE = "online"
    BUSY = "busy"
    DRAINING = "draining"
    UNRESPONSIVE = "unresponsive"
    OFFLINE = "offline"


class AgentFields(TypedDict, total=False):
    """How an agent introduces itself, beside its id."""

    name: str
    endpoint: str
    model: str
    specialization: str
    capabilities: list[dict[str, Any]]
    hardware: dict[str, Any]
    performance_targets: dict[str, Any]
    labels: dict[str, Any]
    projects: list[str]
    max_concurrent: int
    instance_id: str


@dataclass(frozen=True, kw_only=True)
class Capability(Record):
    """Something an agent can do, and how well (0 to 1)."""

    name: str = ""
    proficiency: float | None = None


@dataclass(frozen=True, kw_only=True)
class Learned(Record):
    """How often attempts at something succeeded lately (0 to 1), and how many there were. ``name``: a capability, or
    the type of tasks that require none.
    """

    name: str = ""
    proficiency: float = 0.0
    attempts: int = 0


@dataclass(frozen=True, kw_only=True)
class Agent(Record):
    """An agent as the API shows it."""

    agent_id: str = ""
    name: str | None = None
    status: str = ""
    epoch: int = 0
    endpoint: str | None = None
    model: str | None = None
    specialization: str | None = None
    capabilities: list[Capability] = field(default_factory=list)
    hardware: Any = None
    performance_targets: Any = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    projects: list[str] = field(default_factory=list)
    max_concurrent: int = 1
    instance_id: str | None = None
    draining: bool = False
    completed: int = 0
    failed: int = 0
    learned_proficiency: float | None = None
    learned: list[Learned] = field(default_factory=list)
    average_cost_usd: float | None = None
    current_tasks: list[Any] = field(default_factory=list)
    free_slots: int | None = None
    last_seen: datetime | None = None
    performance: Any = None
    revision: int = 0
    created_revision: int = 0


@dataclass(frozen=True, kw_only=True)
class Registration(Record):
    """``epoch`` goes into every later call of the agent; another registration of the id makes it stale."""

    agent: Agent = field(default_factory=Agent)
    epoch: int = 0
    heartbeat_interval_ms: int = 5000


@dataclass(frozen=True, kw_only=True)
class Held(Record):
    """A task that the server believes this agent has."""

    task_id: str = ""
    attempt: int = 0
    status: str = ""
    lease_remaining_ms: int | None = None
    project: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cancel(Record):
    """Stop this attempt and confirm with ``release``."""

    task_id: str = ""
    attempt: int = 0
    reason: str = ""
    project: str | None = None


@dataclass(frozen=True, kw_only=True)
class Lost(Record):
    """This attempt is no longer the agent's; nothing it says of it counts."""

    task_id: str = ""
    attempt: int = 0
    current: Any = None
    project: str | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat(Record):
    """The answer to a heartbeat. ``offers`` repeat until they are accepted or withdrawn."""

    offers: list[Grant] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    cancel: list[Cancel] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    drain: bool = False
    inbox: Mapping[str, Any] = field(default_factory=dict)
    heartbeat_interval_ms: int | None = None
    warnings: list[Any] = field(default_factory=list)
