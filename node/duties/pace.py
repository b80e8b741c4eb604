"""How often agents are asked to call, and how long they may be silent: by the size of the fleet, grace apart."""

from __future__ import annotations

from collections.abc import Callable

from node.duties.fleet import AgentMemory, Fleet
from node.duties.settings import DutySettings


class Pace:
    """Of one leader. Agents that are offline take no part: they do not call."""

    def __init__(self, fleet: Fleet, settings: Callable[[], DutySettings]) -> None:
        self._fleet = fleet
        self._settings = settings

    def ask_ms(self, agent: AgentMemory) -> int:
        """How often this agent is asked to call, from now on."""
        agent.interval_ms = self._settings().interval_of(agent.agent_id, self._fleet.present)
        return agent.interval_ms

    def patience_s(self) -> float:
        """How long any agent may be silent."""
        settings = self._settings()
        return settings.interval_ms(self._fleet.present) * settings.heartbeats_missed_max / 1000

    def patience_with_s(self, agent: AgentMemory) -> float:
        """How long this agent may be silent: it keeps to what it was told last, which the fleet may have outgrown."""
        return max(self.patience_s(), agent.interval_ms * self._settings().heartbeats_missed_max / 1000)
