"""What agents are to get by decisions under way: it takes room of theirs before the state shows it."""

from __future__ import annotations

from node.duties.holdings import Holding, Holdings, TaskKey


class Promises:
    """Tasks promised to agents. One that the agent holds by now counts among its holdings only, never twice.

    Slots are asked for several times a decision, of agents that may be promised hundreds: they are counted as promises
    and holdings come and go.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._of: dict[str, dict[TaskKey, None]] = {}
        self._slots: dict[str, int] = {}
        holdings.on_change(self._on_holding)

    def slots(self, agent_id: str) -> int:
        """How many slots of the agent promises take, beside those that its holdings take."""
        return self._slots.get(agent_id, 0)

    def give(self, agent_id: str, key: TaskKey) -> None:
        """The agent is to get this task."""
        promised = self._of.setdefault(agent_id, {})
        if key not in promised:
            promised[key] = None
            self._count(agent_id, 0 if self._held(agent_id, key) else 1)

    def end(self, agent_id: str, key: TaskKey) -> bool:
        """It is decided: from now on holdings count the task, or nobody does. Whether that gives the agent room."""
        promised = self._of.get(agent_id)
        if promised is None or key not in promised:
            return False
        del promised[key]
        if not promised:
            del self._of[agent_id]
        held = self._held(agent_id, key)
        self._count(agent_id, 0 if held else -1)
        return not held

    def _held(self, agent_id: str, key: TaskKey) -> bool:
        holding = self._holdings.get(key)
        return holding is not None and holding.agent_id == agent_id

    def _on_holding(self, holding: Holding, count: int) -> None:
        if holding.key in self._of.get(holding.agent_id, ()):
            self._count(holding.agent_id, -count)

    def _count(self, agent_id: str, count: int) -> None:
        left = self._slots.get(agent_id, 0) + count
        if left:
            self._slots[agent_id] = left
        else:
            self._slots.pop(agent_id, None)
