"""Who asks for tasks, best first: kept from one pass to the next.

A decision costs the same whether ten agents listen or ten thousand: nobody is looked at unless something about it has
changed, or it has come to the front. For each need that tasks had lately there is a heap of all who could do them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from node.duties.budget_gate import BudgetGate
from node.duties.fleet import AgentMemory, Fleet
from node.duties.lanes import PendingTask, Signature
from node.duties.promises import Promises
from statemachine import agent_record

BIDS_ANEW_MAX = 1_000
"""Demands whose bids are put into the heaps in one pass."""
NEEDS_MAX = 64
"""Heaps that are kept; another one takes the place of that which was not asked for the longest."""

Bid = tuple[float, int, str, int, "Demand"]
"""(minus score, last use, agent id, stamp, demand): smaller is better. A bid with an old stamp counts no more."""

Bounds = tuple[str | None, frozenset[str] | None]
"""The project and the queues that a demand is limited to."""


@dataclass(slots=True, eq=False)
class Demand:
    """What an agent asks for: up to `limit` tasks, of one project and some queues (None: any), by poll or by claim.

    `taken` is what a claim was given and has not been told of yet, `answer` where a claim that waits is answered,
    `stamp` that of its bids that count.
    """

    agent: AgentMemory
    limit: int
    project: str | None = None
    queues: frozenset[str] | None = None
    claims: bool = False
    answer: asyncio.Future[tuple[str, ...]] | None = None
    taken: list[PendingTask] = field(default_factory=list)
    stamp: int = 0

    def fits(self, signature: Signature) -> bool:
        """Whether tasks of this lane may go here."""
        return (
            (self.project is None or self.project == signature.project)
            and (self.queues is None or signature.queue in self.queues)
            and self.agent.serves(signature.project)
            and self.agent.can(signature.requires)
        )


class Bidders:
    """Open polls, taken from the fleet by `begin`, and claims, which are added and removed. A pass asks `anyone` first.

    HEAPS ARE LAZY: what got worse (a slot was taken) is noticed when it comes to the front, what may have got better
    must be bid anew. So every change that can make somebody better has to reach `_changed`: through the fleet, which
    hears of polls, records and freed slots, or through `settle` and `decided`, for what was promised and may not be
    kept. What is offered stays promised until the outcome of its proposal: passes in between count it. `behind`: some
    have not bid yet, and another pass may find more.
    """

    def __init__(self, fleet: Fleet, promises: Promises, budgets: BudgetGate | None = None) -> None:
        self._fleet = fleet
        self._budgets = BudgetGate(lambda _: None) if budgets is None else budgets
        self._promises = promises
        self._now_s = 0.0
        self._polls: dict[str, Demand] = {}
        self._claims: dict[str, dict[Demand, None]] = {}
        self._bounds: Counter[Bounds] = Counter()
        self._heaps: dict[Signature, list[Bid]] = {}
        self._stamps = itertools.count(1)
        self._changed: dict[Demand, None] = {}
        self._roomy: dict[Demand, None] = {}
        self._given: list[tuple[Demand, PendingTask]] = []
        self.behind = False
        # Who comes first for whom, until something is given away or changes.
        self._wanted: tuple[Signature, Demand] | None = None

    @property
    def bounds(self) -> Bounds:
        """What all demands are limited to; (None, None) where they differ."""
        return next(iter(self._bounds)) if len(self._bounds) == 1 else (None, None)

    def add(self, demand: Demand) -> None:
        """A claim that waits."""
        self._claims.setdefault(demand.agent.agent_id, {})[demand] = None
        self._enter(demand)

    def remove(self, demand: Demand) -> None:
        """A claim that was answered. Again: nothing happens."""
        claims = self._claims.get(demand.agent.agent_id, {})
        if demand in claims:
            del claims[demand]
            if not claims:
                del self._claims[demand.agent.agent_id]
            self._leave(demand)

    def begin(self, now_s: float) -> list[Demand]:
        """Take in what has changed. Returns the claims of agents that are gone, or of another epoch now."""
        self._now_s = now_s
        gone: list[Demand] = []
        for agent_id in self._fleet.take_changed():
            agent = self._fleet.get(agent_id)
            self._see_poll(agent_id, agent)
            for claim in self._claims.get(agent_id, ()):
                if agent is None or agent.epoch != claim.agent.epoch:
                    gone.append(claim)
                else:
                    claim.agent = agent
                    self._changed[claim] = None
        return gone

    def _see_poll(self, agent_id: str, agent: AgentMemory | None) -> None:
        known = self._polls.get(agent_id)
        if agent is None or not self._listens(agent):
            if known is not None:
                del self._polls[agent_id]
                self._leave(known)
        elif known is None:
            self._polls[agent_id] = demand = Demand(agent, agent.max_concurrent)
            self._enter(demand)
        else:
            known.agent, known.limit = agent, agent.max_concurrent
            self._changed[known] = None

    def _listens(self, agent: AgentMemory) -> bool:
        return (
            agent.liveness == agent_record.ONLINE
            and not agent.draining
            and self._fleet.listening(agent, self._now_s)
            and not self._fleet.cooling.cools(agent.provider, self._now_s)
        )

    def _enter(self, demand: Demand) -> None:
        self._bounds[demand.project, demand.queues] += 1
        self._changed[demand] = None

    def _leave(self, demand: Demand) -> None:
        bounds = (demand.project, demand.queues)
        self._bounds[bounds] -= 1
        if not self._bounds[bounds]:
            del self._bounds[bounds]
        self._changed.pop(demand, None)
        self._roomy.pop(demand, None)
        self._wanted = None
        demand.stamp = 0

    # --- one pass ---------------------------------------------------------------------------------------------------

    def anyone(self) -> bool:
        """Whether anybody can take anything now."""
        self._bid_anew()
        self._wanted = None
        while self._roomy:
            if self._room(demand := next(iter(self._roomy))) > 0:
                return True
            del self._roomy[demand]
        return False

    def wants(self, signature: Signature) -> bool:
        """Whether anybody can take a task of this lane now."""
        demand = self._front(self._heap(signature), signature)
        self._wanted = None if demand is None else (signature, demand)
        return demand is not None

    def best(self, signature: Signature, refused: Callable[[Demand], bool]) -> Demand | None:
        """Who should get a task of this lane; those `refused` are passed over."""
        wanted = self._wanted
        if wanted is not None and wanted[0] is signature and not refused(wanted[1]):
            return wanted[1]
        heap, aside = self._heap(signature), []
        try:
            while (demand := self._front(heap, signature)) is not None and refused(demand):
                aside.append(heapq.heappop(heap))
        finally:
            for bid in aside:
                heapq.heappush(heap, bid)
        return demand

    def of(self, agent_id: str, signature: Signature) -> Demand | None:
        """What this agent asks for, if it can take a task of this lane now."""
        poll = self._polls.get(agent_id)
        demands = [] if poll is None else [poll]
        demands.extend(self._claims.get(agent_id, ()))
        for demand in demands:
            if demand.fits(signature) and self._room(demand) > 0:
                return demand
        return None

    def rank(self, demand: Demand, signature: Signature, affinity: float) -> tuple[float, int, str]:
        """What decides between demands for one task, smaller first: score with affinity, last use, id."""
        bid = self._bid(demand, signature)
        return bid[0] - self._fleet.weights.affinity * affinity, bid[1], bid[2]

    def weigh_anew(self) -> None:
        """What scores are made of changed."""
        self._wanted = None
        self._heaps.clear()

    def give(self, demand: Demand, task: PendingTask) -> None:
        """The demand is to get this task."""
        self._wanted = None
        self._promises.give(demand.agent.agent_id, task.key)
        self._fleet.mark_used(demand.agent)
        if demand.claims:
            demand.taken.append(task)
            self._given.append((demand, task))

    def settle(self) -> None:
        """The pass is over. What claims were given is with them; whether they take it shows in the holdings."""
        for demand, task in self._given:
            self._promises.end(demand.agent.agent_id, task.key)
            if demand.stamp:
                self._changed[demand] = None
        self._given.clear()

    def decided(self, offers: Iterable[tuple[PendingTask, AgentMemory]]) -> None:
        """The outcome of these offers is known, or never will be."""
        for task, agent in offers:
            if self._promises.end(agent.agent_id, task.key):
                self._bid_of(agent.agent_id)

    def _bid_of(self, agent_id: str) -> None:
        poll = self._polls.get(agent_id)
        if poll is not None:
            self._changed[poll] = None
        self._changed.update(self._claims.get(agent_id, {}))

    # --- heaps ------------------------------------------------------------------------------------------------------

    def _heap(self, signature: Signature) -> list[Bid]:
        heap = self._heaps.pop(signature, None)
        if heap is None:
            heap = [self._bid(demand, signature) for demand in self._all() if demand.stamp and demand.fits(signature)]
            heapq.heapify(heap)
            if len(self._heaps) >= NEEDS_MAX:
                del self._heaps[next(iter(self._heaps))]
        self._heaps[signature] = heap
        return heap

    def _bid_anew(self) -> None:
        if not self._changed:
            self.behind = False
            return
        changed, self._changed = self._changed, {}
        if len(changed) > BIDS_ANEW_MAX:
            # The whole fleet may have begun to listen at once: the others are left out until the next pass.
            self._changed = dict.fromkeys(islice(changed, BIDS_ANEW_MAX, None))
            changed = dict.fromkeys(islice(changed, BIDS_ANEW_MAX))
            for demand in self._changed:
                demand.stamp = 0
        self.behind = bool(self._changed)
        self._roomy.update(changed)
        for demand in changed:
            demand.stamp = next(self._stamps)
            for signature, heap in self._heaps.items():
                if demand.fits(signature):
                    heapq.heappush(heap, self._bid(demand, signature))
        for heap in self._heaps.values():
            if len(heap) > 2 * self._bounds.total() + 64:
                heap[:] = [bid for bid in heap if bid[3] == bid[4].stamp]
                heapq.heapify(heap)

    def _all(self) -> itertools.chain[Demand]:
        return itertools.chain(self._polls.values(), *self._claims.values())

    def _front(self, heap: list[Bid], signature: Signature) -> Demand | None:
        """The best one that still has room. Who has none is dropped until something about it changes."""
        while heap:
            bid = heap[0]
            demand = bid[4]
            if bid[3] != demand.stamp or self._room(demand) <= 0:
                heapq.heappop(heap)
                continue
            now = self._bid(demand, signature)
            if now[:3] <= bid[:3]:
                return demand
            heapq.heapreplace(heap, now)
        return None

    def _bid(self, demand: Demand, signature: Signature) -> Bid:
        agent = demand.agent
        used = self._fleet.slots_used(agent) + self._promises.slots(agent.agent_id)
        return (-self._fleet.score(agent, signature.requires, used), agent.used, agent.agent_id, demand.stamp, demand)

    def _room(self, demand: Demand) -> int:
        agent = demand.agent
        if not demand.claims and not self._listens(agent):
            return 0
        free = self._fleet.slots_free(agent)
        if self._budgets and (room := self._budgets.room_of_agent(agent.agent_id)) is not None:
            free = min(free, room)
        return min(demand.limit - len(demand.taken), free - self._promises.slots(agent.agent_id))
