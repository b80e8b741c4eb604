"""One process of a simulated machine: it runs, stands still, and ends."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tests.sim.clockwork import Action
from tests.sim.coroutines import running
from tests.sim.leadership import Edge

if TYPE_CHECKING:
    from tests.sim.member import Member


class Life:
    """One process: actions of a dead one are dropped, those of a paused one wait."""

    def __init__(self, member: Member, number: int) -> None:
        self.number = number
        self._member = member
        self._waiting: deque[Action] = deque()
        self.paused = False
        self.over = False
        self.edge: Edge | None = None

    def run(self, action: Action) -> None:
        """Run an action of this process, now or when it is no longer paused."""
        if self.over:
            return
        if self.paused:
            self._waiting.append(action)
            return
        if self.edge is None:
            action()
        else:
            with running(self.edge.loop):
                action()
        if not self.over:
            self._member.sim.checks.after_step(self._member)

    def end(self) -> None:
        """The process is gone."""
        self.over = True
        self._waiting.clear()
        if self.edge is not None:
            self.edge.loop.kill()

    def resume(self) -> None:
        """Everything that should have happened meanwhile happens now, late."""
        self.paused = False
        while self._waiting and not self.paused:
            self.run(self._waiting.popleft())
