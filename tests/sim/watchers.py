"""Clients that follow the change feed, at any node, from where they stand: no gap, no repeat, the same everywhere."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from statemachine import changes
from statemachine.machine import read_meta

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.simulation import Simulation


class Watchers:
    """Some clients, each at a revision of its own; each looks at another node every time."""

    def __init__(self, sim: Simulation, rng: Random, count: int = 2) -> None:
        self._sim = sim
        self._rng = rng
        self._next = [1] * count
        self.looks = self.changes = self.lapsed = 0

    def begin(self) -> None:
        """Look now and then, until the end."""
        for number in range(len(self._next)):
            self._look(number)

    def _look(self, number: int) -> None:
        awake = [member for member in self._sim.members if member.awake]
        if awake:
            self._follow(number, self._rng.choice(awake))
        self._sim.scheduler.after(self._rng.expovariate(1 / 0.2), lambda: self._look(number))

    def _follow(self, number: int, member: Member) -> None:
        """Read on. A node that is behind has nothing new; one that compacted more than was read says so."""
        self.looks += 1
        with member.core.state.view() as view:
            meta = read_meta(view)
            if meta.compacted_revision >= self._next[number]:
                self.lapsed += 1
                self._next[number] = meta.compacted_revision + 1
            for last_revision, group in changes.read(view, self._next[number]):
                if group.first_revision > self._next[number]:
                    self._sim.checks.violated(
                        member.node_id,
                        f"a watcher at revision {self._next[number]} is told of {group.first_revision} next",
                    )
                told = [change for change in group.changes if change.revision >= self._next[number]]
                self.changes += len(told)
                self._sim.checks.on_told(member, told)
                self._next[number] = last_revision + 1
