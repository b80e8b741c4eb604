"""One blow falling: what its action knows, and whom it may hit."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from tests.nemesis.fleet import Fleet
from tests.nemesis.history import History
from tests.nemesis.pauses import pause
from tests.nemesis.plan import Blow

LEADER_WITHIN_S = 3.0


@dataclass(frozen=True, slots=True)
class Strike:
    """`ending`: set when the run must end at once."""

    fleet: Fleet
    history: History
    blow: Blow
    rng: random.Random
    ending: asyncio.Event

    async def hold(self) -> None:
        """As long as the plan says."""
        await pause(self.blow.hold_s, self.ending)

    async def leader(self) -> str:
        """Who leads; anybody if nobody does."""
        deadline_s = self.history.now_s() + LEADER_WITHIN_S
        while self.history.now_s() < deadline_s:
            if (leader := await self.fleet.leader()) is not None:
                return leader
            await pause(0.05, self.ending)
        return self.rng.choice(self.fleet.node_ids)

    async def follower(self, *but: str) -> str:
        """Somebody else, and none of `but`."""
        leader = await self.leader()
        return self.rng.choice(self.others(leader, *but))

    def some(self, count: int) -> list[str]:
        """So many of all nodes."""
        return self.rng.sample(self.fleet.node_ids, count)

    def others(self, *node_ids: str) -> list[str]:
        """All but these."""
        return [node_id for node_id in self.fleet.node_ids if node_id not in node_ids]

    def defect(self, text: str) -> None:
        """Something is wrong, whatever else happened."""
        self.history.defects.append(text)

    @property
    def majority(self) -> int:
        return len(self.fleet.node_ids) // 2 + 1
