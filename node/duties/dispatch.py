"""Who gets which pending task: agents with an open poll are offered work, waiting claims are answered with it.

Tasks are taken in the order of `pending`: projects and sessions in turn, then priority and age; each goes to the demand
with the best score among those that fit (`bidders`). A lane that no demand fits is passed over whole.
"""

from __future__ import annotations

from collections.abc import Callable

from node.duties.bidders import Bidders, Demand
from node.duties.fleet import AgentMemory, Fleet
from node.duties.lanes import PendingTask, Signature
from node.duties.pending import PendingTasks
from node.duties.settings import DutySettings


class Dispatcher:
    """Matches demands with pending tasks; what is matched stays reserved until it is assigned or lapses."""

    def __init__(self, pending: PendingTasks, fleet: Fleet, settings: DutySettings) -> None:
        self._pending = pending
        self._fleet = fleet
        self._settings = settings

    def match(
        self, bidders: Bidders, *, now_ms: int, claimed_until_s: float, offered_until_s: float, tasks_max: int
    ) -> list[tuple[PendingTask, Demand]]:
        """Reserve tasks for demands. `unfinished` of the pending tasks says that another pass may find more."""
        matched: list[tuple[PendingTask, Demand]] = []
        self._pending.gate.begin(now_ms)
        if not bidders.anyone():
            self._pending.unfinished = False
            return matched

        def wanted(signature: Signature) -> bool:
            return len(matched) < tasks_max and bidders.wants(signature)

        project, queues = bidders.bounds
        try:
            for task in self._pending.in_order(wanted, project, queues):
                demand = self._best(bidders, task, self._refuser(task, now_ms))
                if demand is not None:
                    bidders.give(demand, task)
                    self._pending.reserve(task, claimed_until_s if demand.claims else offered_until_s)
                    matched.append((task, demand))
                if len(matched) >= tasks_max or not bidders.anyone():
                    break
        finally:
            bidders.settle()
        return matched

    @staticmethod
    def _best(bidders: Bidders, task: PendingTask, refused: Callable[[Demand], bool]) -> Demand | None:
        if task.prefers is not None:
            # It knows the task: it parked it.
            former = bidders.of(task.prefers, task.signature)
            if former is not None and not refused(former):
                return former
        return bidders.best(task.signature, refused)

    def _refuser(self, task: PendingTask, now_ms: int) -> Callable[[Demand], bool]:
        def refused(demand: Demand) -> bool:
            return not demand.claims and avoided(self._fleet, self._settings, task, demand.agent, now_ms)

        return refused


def avoided(fleet: Fleet, settings: DutySettings, task: PendingTask, agent: AgentMemory, now_ms: int) -> bool:
    """Whether the task should not go to this agent, which let it go a moment ago.

    A PREFERENCE: while another agent is there that can do it, for a while; otherwise only long enough not to spin.
    """
    if not task.avoids(agent.agent_id, now_ms, settings.avoid_ms):
        return False
    if task.avoids(agent.agent_id, now_ms, settings.avoid_alone_ms):
        return True
    return fleet.anyone_else(agent.agent_id, task.signature.project, task.signature.requires)
