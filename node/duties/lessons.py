"""What the ends of attempts mean for placement: rates to be read anew, and providers that limit theirs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from cluster.replica import View
from node.duties.cooling import RATE_LIMITED
from node.duties.fleet import Fleet
from statemachine import agent_record
from statemachine.task_states import TaskState


class Lessons:
    """Collects whose attempts ended, and reads what that taught when somebody decides by it: once for each pass."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._taught: dict[str, None] = {}

    def ended(self, agent_id: str, to: object, reason: object, now_s: float) -> None:
        """An attempt of the agent ended, by which its task came to this state."""
        self._taught[agent_id] = None
        agent = self._fleet.get(agent_id)
        if agent is None or agent.provider is None:
            return
        if to == TaskState.COMPLETED:
            self._fleet.cooling.succeeded(agent.provider)
        elif reason == RATE_LIMITED:
            self._fleet.cooling.limited(agent.provider, now_s)

    def learn(self, open_view: Callable[[], AbstractContextManager[View]]) -> None:
        """Take over what the attempts taught that ended since this was called the last time."""
        if not self._taught:
            return
        taught, self._taught = self._taught, {}
        with open_view() as view:
            for agent in map(self._fleet.get, taught):
                if agent is not None:
                    agent.learn(agent_record.load_of(view, agent.number))
        self._fleet.touch(taught)
