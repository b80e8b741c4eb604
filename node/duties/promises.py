"""What agents are to get by decisions under way: it takes room of theirs before the state shows it."""

from __future__ import annotations

from node.duties.holdings import Holdings, TaskKey


class Promises:
    """Tasks promised to agents. One that the agent holds by now counts among its holdings only, never twice."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._of: dict[str, dict[TaskKey, None]] = {}

    def slots(self, agent_id: str) -> int:
        """How many slots of the agent promises take, beside those that its holdings take."""
        promised = self._of.get(agent_id)
        if promised is None:
            return 0
        return sum(not self._held(agent_id, key) for key in promised)

    def give(self, agent_id: str, key: TaskKey) -> None:
        """The agent is to get this task."""
        self._of.setdefault(agent_id, {})[key] = None

    def end(self, agent_id: str, key: TaskKey) -> bool:
        """It is decided: from now on holdings count the task, or nobody does. Whether that gives the agent room."""
        promised = self._of.get(agent_id)
        if promised is None or key not in promised:
            return False
        del promised[key]
        if not promised:
            del self._of[agent_id]
        return not self._held(agent_id, key)

    def _held(self, agent_id: str, key: TaskKey) -> bool:
        holding = self._holdings.get(key)
        return holding is not None and holding.agent_id == agent_id
