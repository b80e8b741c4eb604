"""Who gets which pending task: agents with an open poll are offered work, waiting claims are answered with it.

Tasks are taken in order, highest priority first, then oldest; each goes to the demand with the best score among those
that fit. A lane that no demand fits is passed over whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from node.duties.fleet import AgentMemory, Fleet, score
from node.duties.lanes import PendingTask, Signature
from node.duties.pending import PendingTasks
from node.duties.settings import DutySettings


@dataclass(slots=True, eq=False)
class Demand:
    """What an agent asks for: up to `limit` tasks, of one project and some queues (None: any), by poll or by claim.

    `room` is what it can still take in the pass under way, `answer` where a claim that waits is answered.
    """

    agent: AgentMemory
    limit: int
    project: str | None = None
    queues: frozenset[str] | None = None
    claims: bool = False
    answer: asyncio.Future[tuple[str, ...]] | None = None
    room: int = 0
    taken: list[PendingTask] = field(default_factory=list)

    def fits(self, signature: Signature) -> bool:
        """Whether tasks of this lane may go here."""
        return (
            (self.project is None or self.project == signature.project)
            and (self.queues is None or signature.queue in self.queues)
            and self.agent.serves(signature.project)
            and self.agent.can(signature.requires)
        )


class Dispatcher:
    """Matches demands with pending tasks; what is matched stays reserved until it is assigned or lapses."""

    def __init__(self, pending: PendingTasks, fleet: Fleet, settings: DutySettings) -> None:
        self._pending = pending
        self._fleet = fleet
        self._settings = settings

    def match(
        self, demands: Iterable[Demand], *, now_ms: int, reserve_until_s: float, tasks_max: int
    ) -> list[tuple[PendingTask, Demand]]:
        """Reserve tasks for demands. `unfinished` of the pending tasks says that another pass may find more."""
        open_demands = []
        for demand in demands:
            demand.room = min(demand.limit, self._fleet.slots_free(demand.agent))
            if demand.room > 0:
                open_demands.append(demand)
        fitting: dict[Signature, list[Demand]] = {}
        matched: list[tuple[PendingTask, Demand]] = []
        if not open_demands:
            self._pending.unfinished = False
            return matched

        def wanted(signature: Signature) -> bool:
            if len(matched) >= tasks_max:
                return False
            found = fitting.get(signature)
            if found is None:
                found = fitting[signature] = [demand for demand in open_demands if demand.fits(signature)]
            return any(demand.room for demand in found)

        project, queues = _bounds(open_demands)
        for task in self._pending.in_order(wanted, project, queues):
            best = self._best(task, fitting[task.lane.signature], now_ms)
            if best is not None:
                best.room -= 1
                best.taken.append(task)
                self._fleet.mark_used(best.agent)
                self._pending.reserve(task, reserve_until_s)
                matched.append((task, best))
            if len(matched) >= tasks_max or not any(demand.room for demand in open_demands):
                break
        return matched

    def _best(self, task: PendingTask, demands: Sequence[Demand], now_ms: int) -> Demand | None:
        requires = task.lane.signature.requires
        best: Demand | None = None
        best_rank: tuple[float, int, str] | None = None
        for demand in demands:
            agent = demand.agent
            if demand.room <= 0 or (not demand.claims and avoided(self._fleet, self._settings, task, agent, now_ms)):
                continue
            used = self._fleet.slots_used(agent) + len(demand.taken)
            rank = (-score(agent, requires, used), agent.used, agent.agent_id)
            if best_rank is None or rank < best_rank:
                best, best_rank = demand, rank
        return best


def avoided(fleet: Fleet, settings: DutySettings, task: PendingTask, agent: AgentMemory, now_ms: int) -> bool:
    """Whether the task should not go to this agent, which let it go a moment ago.

    A PREFERENCE: while another agent is there that can do it, for a while; otherwise only long enough not to spin.
    """
    if not task.avoids(agent.agent_id, now_ms, settings.avoid_ms):
        return False
    if task.avoids(agent.agent_id, now_ms, settings.avoid_alone_ms):
        return True
    return fleet.anyone_else(agent.agent_id, task.lane.signature.project, task.lane.signature.requires)


def _bounds(demands: Sequence[Demand]) -> tuple[str | None, frozenset[str] | None]:
    """The one project, and the queues, that all demands are limited to; None where they differ."""
    first = demands[0]
    if any((demand.project, demand.queues) != (first.project, first.queues) for demand in demands):
        return None, None
    return first.project, first.queues
