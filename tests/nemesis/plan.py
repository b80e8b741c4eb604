"""What the nemesis will do: a row of blows without end that a seed decides. A run takes as many as it has time for."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count

HOLD_S = (0.8, 4.0)
LONG_HOLD_S = (4.0, 7.0)
LONG_P = 0.15
GAP_S = (0.7, 2.5)
SECOND_P = 0.25

KINDS: tuple[str, ...] = (
    "kill leader",
    "kill follower",
    "kill majority",
    "kill all",
    "stop and start one",
    "pause leader",
    "pause follower",
    "pause all",
    "cut off leader",
    "cut off minority",
    "leader hears nothing",
    "leader says nothing",
    "one pair apart",
    "slow lines",
    "late lines",
    "torn lines",
    "clients cut off",
    "replies lost",
    "disk full",
    "damaged log",
    "damaged snapshot",
    "damaged state",
    "unplugged",
    "hand leadership over",
    "take snapshots",
    "replace follower",
    "replace leader",
    "replace dead member",
    "join in trouble",
)
"""Everything it can do."""

BESIDE = frozenset({"slow lines", "late lines", "torn lines", "take snapshots"})
"""What may go on while another blow falls."""

MEMBERSHIP = frozenset({"replace follower", "replace leader", "replace dead member", "join in trouble"})
"""After which the members are others, and as many."""

SINGLY = frozenset({"damaged log", "damaged snapshot", "damaged state", "disk full"}) | MEMBERSHIP
"""What takes as long as it needs: nothing else falls meanwhile."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault. `gap_s` passes before it; `cut`: what waited on dark lines is lost when it ends; `beside`: another one
    that goes on meanwhile; `number` seeds what chance decides when it falls."""

    number: int
    kind: str
    gap_s: float
    hold_s: float
    cut: bool
    beside: str


def plan(seed: int, without: Collection[str] = ()) -> Iterator[Blow]:
    """Blows one after the other. Every kind comes once before any comes again."""
    rng = random.Random(f"plan/{seed}")
    kinds = [kind for kind in KINDS if kind not in without]
    bag: list[str] = []
    for number in count():
        if not bag:
            bag = rng.sample(kinds, len(kinds))
        kind = bag.pop()
        hold_s = rng.uniform(*(LONG_HOLD_S if rng.random() < LONG_P else HOLD_S))
        others = sorted(BESIDE - {kind} - set(without))
        beside = rng.choice(others) if others and kind not in SINGLY and rng.random() < SECOND_P else ""
        yield Blow(number, kind, rng.uniform(*GAP_S), hold_s, rng.random() < 0.5, beside)
