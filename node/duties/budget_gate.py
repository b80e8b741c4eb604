"""Whose budget has room just now: projects, sessions and agents, as the state has them.

Only what keeps the leader from proposing in vain: `apply` decides. What has no budget is not even looked up.
"""

from __future__ import annotations

from collections.abc import Callable

from node.duties.fairness import Flow
from statemachine.budget_record import AGENT, PROJECT, SESSION, Budget

Place = tuple[str, str, str]
"""(scope, project, id); the project of an agent's budget is nothing."""


class BudgetGate:
    """`read` shows the budget of a place as it is now; None where there is none.

    Every pass counts rooms anew. What is on its way to an agent is counted twice while the state has it already and its
    notice has not come: then room is found a moment later.
    """

    def __init__(self, read: Callable[[Place], Budget | None]) -> None:
        self._read = read
        self._places: set[Place] = set()
        self._under_way: dict[Place, int] = {}
        self._rooms: dict[Place, int | None] = {}

    def __bool__(self) -> bool:
        return bool(self._places)

    def __contains__(self, place: Place) -> bool:
        return place in self._places

    def see(self, place: Place, *, there: bool) -> None:
        """A budget was made, changed or removed."""
        if there:
            self._places.add(place)
        else:
            self._places.discard(place)
            self._under_way.pop(place, None)
        self._rooms.pop(place, None)

    def clear(self) -> None:
        """Forget everything, to be read anew."""
        self._places.clear()
        self._under_way.clear()
        self._rooms.clear()

    def begin(self) -> None:
        """A pass begins."""
        self._rooms.clear()

    def open(self, project: str) -> bool:
        """Whether a task of the project may be given away in this pass, as far as the project's own budget goes."""
        return not self._places or self._open((PROJECT, project, project))

    def admits(self, flow: Flow) -> bool:
        """Whether a task of the session may."""
        return flow.session is None or self._open((SESSION, flow.share.project, flow.session))

    def room_of_agent(self, agent_id: str) -> int | None:
        """How many tasks the agent may get in this pass; None: any number."""
        place = AGENT, "", agent_id
        return self._room(place) if place in self._places else None

    def exhausted(self, agent_id: str) -> bool:
        """Whether the agent's budget has no room, asked between passes."""
        place = AGENT, "", agent_id
        budget = self._read(place) if place in self._places else None
        return budget is not None and budget.room == 0

    def reserve(self, flow: Flow, count: int) -> None:
        """So many more tasks of the flow (or less, below zero) are on their way to agents."""
        if not self._places:
            return
        self._count((PROJECT, flow.share.project, flow.share.project), count)
        if flow.session is not None:
            self._count((SESSION, flow.share.project, flow.session), count)

    def _open(self, place: Place) -> bool:
        if place not in self._places:
            return True
        room = self._room(place)
        return room is None or room > self._under_way.get(place, 0)

    def _room(self, place: Place) -> int | None:
        if place not in self._rooms:
            budget = self._read(place)
            self._rooms[place] = None if budget is None else budget.room
        return self._rooms[place]

    def _count(self, place: Place, count: int) -> None:
        # What was on its way before the budget was made is not counted, so its end may be one too many.
        left = self._under_way.get(place, 0) + count if place in self._places else 0
        if left > 0:
            self._under_way[place] = left
        else:
            self._under_way.pop(place, None)
