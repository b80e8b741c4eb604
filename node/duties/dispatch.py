"""Who gets which pending task: agents with an open poll are offered work, waiting claims are answered with it.

Tasks are taken in the order of `pending`: projects and sessions in turn, then priority and age; each goes to the demand
with the best score among those that fit (`bidders`). A lane that no demand fits is passed over whole. Of a task that
belongs somewhere, the few agents that worked there lately are compared with that one (`affinity`).
"""

from __future__ import annotations

from collections.abc import Callable

from node.duties.affinity import Affinity
from node.duties.bidders import Bidders, Demand
from node.duties.fleet import AgentMemory, Fleet
from node.duties.lanes import PendingTask, Signature
from node.duties.pending import PendingTasks
from node.duties.settings import DutySettings


class Dispatcher:
    """Matches demands with pending tasks; what is matched stays reserved until it is assigned or lapses."""

    def __init__(self, pending: PendingTasks, fleet: Fleet, affinity: Affinity, settings: DutySettings) -> None:
        self._pending = pending
        self._fleet = fleet
        self._affinity = affinity
        self._now_s = 0.0
        self.settings = settings

    def match(
        self,
        bidders: Bidders,
        *,
        now_ms: int,
        now_s: float,
        claimed_until_s: float,
        offered_until_s: float,
        tasks_max: int,
    ) -> list[tuple[PendingTask, Demand]]:
        """Reserve tasks for demands. `unfinished` of the pending tasks says that another pass may find more."""
        matched: list[tuple[PendingTask, Demand]] = []
        self._now_s = now_s
        self._pending.gate.begin(now_ms)
        self._pending.budgets.begin()
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

    def _best(self, bidders: Bidders, task: PendingTask, refused: Callable[[Demand], bool]) -> Demand | None:
        if task.prefers is not None:
            # It knows the task: it parked it.
            former = bidders.of(task.prefers, task.signature)
            if former is not None and not refused(former):
                return former
        best = bidders.best(task.signature, refused)
        return best if best is None or not task.sites else self._nearest(bidders, task, best, refused)

    def _nearest(self, bidders: Bidders, task: PendingTask, best: Demand, refused: Callable[[Demand], bool]) -> Demand:
        """The best one, or one of those that worked where the task belongs, if that makes up for what it lacks."""

        def rank(demand: Demand) -> tuple[float, int, str]:
            return bidders.rank(demand, task.signature, self._affinity.degree(demand.agent.agent_id, task.sites))

        first = rank(best)
        for agent_id in self._affinity.near(task.sites):
            demand = bidders.of(agent_id, task.signature)
            if demand is not None and demand is not best and not refused(demand) and (other := rank(demand)) < first:
                best, first = demand, other
        return best

    def _refuser(self, task: PendingTask, now_ms: int) -> Callable[[Demand], bool]:
        def refused(demand: Demand) -> bool:
            return not demand.claims and avoided(self._fleet, self.settings, task, demand.agent, now_ms, self._now_s)

        return refused


def avoided(
    fleet: Fleet, settings: DutySettings, task: PendingTask, agent: AgentMemory, now_ms: int, now_s: float
) -> bool:
    """Whether the task should not go to this agent, which let it go or failed at it a moment ago.

    A PREFERENCE: while another agent is there that can do it, for a while; otherwise only long enough not to spin, and
    after a failure, which has its back-off, not at all.
    """
    if task.avoid is None or not task.avoids(agent.agent_id, now_ms, settings.avoid_ms):
        return False
    if task.avoid[2] and task.avoids(agent.agent_id, now_ms, settings.avoid_alone_ms):
        return True
    return fleet.anyone_else(agent.agent_id, task.signature.project, task.signature.requires, now_s)
