"""What speaks for giving a task to an agent: five parts, each 0 to 1, and how much each weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from statemachine import settings

PARTS = ("proficiency", "load", "affinity", "success", "cost")
COST_UNKNOWN = 0.5
"""For who never said what an attempt cost: as good as one of the reference cost."""

STEPS = 20
"""Rates and costs count in steps of a twentieth: one attempt moves a rate by up to an eighth, so what differs by less
is chance, and who is equally good shall take turns."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each part weighs; they add up to 1, or are all 0. The reference cost is in micro-dollars."""

    proficiency: float
    load: float
    affinity: float
    success: float
    cost: float
    reference_cost_micro: int

    @classmethod
    def of(cls, values: Mapping[str, int]) -> Weights:
        """From the values of settings, by name."""
        given = {part: values[f"placement.weight.{part}"] for part in PARTS}
        total = sum(given.values()) or 1
        shares = {part: weight / total for part, weight in given.items()}
        return cls(**shares, reference_cost_micro=values["placement.reference_cost_usd"])

    def thrift(self, cost_micro: int | None) -> float:
        """The part of the cost: 1 for nothing, a half for the reference cost."""
        if cost_micro is None:
            return COST_UNKNOWN
        return stepped(self.reference_cost_micro / (self.reference_cost_micro + cost_micro))


def stepped(share: float) -> float:
    """The nearest step."""
    return round(share * STEPS) / STEPS


DEFAULT_WEIGHTS = Weights.of({name: known.default for name, known in settings.SETTINGS.items()})
