"""The fake's registry of agents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hive_client.models.agents import AgentFields
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.world import World

HEARTBEAT_INTERVAL_MS = 5000


@dataclass
class Learned:
    """How often attempts succeeded lately, in ten-thousandths, and how many there were."""

    rate: int = 10_000
    attempts: int = 0

    def taught(self, *, succeeded: bool) -> None:
        self.rate = self.rate - (self.rate - 10_000 >> 3) if succeeded else self.rate + (-self.rate >> 3)
        self.attempts += 1


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass
class AgentState:
    """``poll`` counts heartbeats; a long poll that is no longer the newest ends."""

    agent_id: str
    fields: dict[str, Any]
    instance_id: str | None
    projects: list[str]
    epoch: int = 1
    draining: bool = False
    poll: int = 0
    poll_open: bool = False
    last_seen: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    learned: dict[str, Learned] = field(default_factory=dict)
    success: Learned = field(default_factory=Learned)
    revision: int = 0
    created_revision: int = 0

    @property
    def max_concurrent(self) -> int:
        return int(self.fields.get("max_concurrent", 1))

    def abilities(self) -> dict[str, float]:
        """Every capability, a label ``name=value`` being one too, and how well it has it."""
        have = {f"{name}={_written(value)}": 1.0 for name, value in (self.fields.get("labels") or {}).items()}
        return have | {c["name"]: c.get("proficiency", 1.0) for c in self.fields.get("capabilities", ())}

    def can(self, requires: Sequence[Mapping[str, Any]]) -> bool:
        have = self.abilities()
        return all(r["name"] in have and have[r["name"]] >= r.get("min_proficiency", 0) for r in requires)


class Roster:
    """All agents; ``requeue`` is set by the queue."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._agents: dict[str, AgentState] = {}
        self.requeue: Callable[[str], None] = lambda agent_id: None

    def get(self, agent_id: str) -> AgentState:
        agent = self._agents.get(agent_id)
        if agent is None:
            raise Problem("not_found", f"agent {agent_id} is not registered")
        return agent

    def everyone(self) -> list[AgentState]:
        return list(self._agents.values())

    def open_polls(self) -> list[AgentState]:
        return [agent for agent in self._agents.values() if agent.poll_open]

    def register(self, project: str, body: Mapping[str, Any]) -> tuple[AgentState, bool]:
        """The agent and whether its epoch is new."""
        agent_id = body.get("agent_id")
        if not isinstance(agent_id, str) or not agent_id:
            raise invalid("agent_id", "must be a non-empty string")
        for name in body:
            if name != "agent_id" and name not in AgentFields.__annotations__:
                raise invalid(name, "unknown field")
        known = self._agents.get(agent_id)
        instance_id = body.get("instance_id")
        if known is not None and instance_id is not None and known.instance_id == instance_id:
            return known, False
        fields = {name: value for name, value in body.items() if name != "agent_id"}
        agent = AgentState(agent_id, fields, instance_id, list(body.get("projects", [project])))
        with self._world.write():
            agent.revision = agent.created_revision = self._world.next_revision
            if known is not None:
                agent.epoch, agent.created_revision = known.epoch + 1, known.created_revision
                agent.draining = known.draining
                agent.learned, agent.success = known.learned, known.success
                self.requeue(agent_id)
            self._agents[agent_id] = agent
            self._world.change("agent.registered", project, agent_id, {"epoch": agent.epoch})
        return agent, True

    def checked(self, agent_id: str, epoch: Any) -> AgentState:
        """The agent, if ``epoch`` is its own; a sign of life."""
        agent = self.get(agent_id)
        if agent.epoch != epoch:
            raise Problem("stale_epoch", f"agent {agent_id} was registered again", current={"epoch": agent.epoch})
        agent.last_seen = self._world.now
        return agent

    def set_draining(self, project: str, agent_id: str, draining: bool) -> AgentState:
        agent = self.get(agent_id)
        if agent.draining != draining:
            with self._world.write():
                agent.draining = draining
                agent.revision = self._world.next_revision
                self._world.change("agent.status_changed", project, agent_id, {"draining": draining})
        return agent

    def taught(self, agent_id: str | None, names: Sequence[str], *, succeeded: bool) -> None:
        """An attempt ended that required these (or was of this type)."""
        agent = self._agents.get(agent_id or "")
        if agent is not None:
            for learned in (agent.success, *(agent.learned.setdefault(name, Learned()) for name in names)):
                learned.taught(succeeded=succeeded)

    def reset_learned(self, project: str, agent_id: str, names: Sequence[str] | None) -> AgentState:
        agent = self.get(agent_id)
        if agent.learned if names is None else agent.learned.keys() & set(names):
            with self._world.write():
                agent.learned = {name: one for name, one in agent.learned.items() if names and name not in names}
                agent.success = Learned() if names is None else agent.success
                agent.revision = self._world.next_revision
                self._world.change("agent.learned_reset", project, agent_id, {})
        return agent

    def remove(self, project: str, agent_id: str) -> None:
        self.get(agent_id)
        with self._world.write():
            self.requeue(agent_id)
            del self._agents[agent_id]
            self._world.change("agent.deleted", project, agent_id, {})

    def document(self, agent: AgentState, held: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        fields = {k: v for k, v in agent.fields.items() if k != "instance_id"}
        return {
            "capabilities": [], "labels": {}, "max_concurrent": 1, **fields,
            "agent_id": agent.agent_id, "epoch": agent.epoch, "projects": agent.projects,
            "status": self._status(agent, len(held)), "current_tasks": list(held),
            "learned_proficiency": agent.success.rate / 10_000 if agent.success.attempts else None,
            "learned": [
                {"name": name, "proficiency": one.rate / 10_000, "attempts": one.attempts}
                for name, one in agent.learned.items()
            ],
            "free_slots": max(0, agent.max_concurrent - len(held)),
            "last_seen": None if agent.last_seen is None else self._world.text_time(agent.last_seen),
            "revision": agent.revision, "created_revision": agent.created_revision,
        }  # fmt: skip

    def _status(self, agent: AgentState, held: int) -> str:
        silent_s = 3 * HEARTBEAT_INTERVAL_MS / 1000
        if not agent.poll_open and (agent.last_seen is None or self._world.now - agent.last_seen > silent_s):
            return "offline"
        if agent.draining:
            return "draining"
        return "busy" if held >= agent.max_concurrent else "online"
