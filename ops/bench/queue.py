"""`hive bench queue`: the task queue on three nodes of this machine, phase by phase.

Each phase has a fresh cluster, so that none finds what another left; `decisions` and `memory` share one backlog. All
load comes from this process, over bare connections; what share of the processor it took is said beside each figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ops.bench import queue_decisions, queue_dispatch, queue_lifecycle
from ops.bench.queue_lifecycle import SHAPES, Calls, Shape
from ops.bench.queue_site import Say, allow_files, site

OFFER_TIMEOUT_MS = 60_000
"""While decisions are counted nobody accepts them, and none may be taken back."""


class Phase(StrEnum):
    """What can be measured."""

    LIFECYCLE = "lifecycle"
    BATCHES = "batches"
    DECISIONS = "decisions"
    MEMORY = "memory"
    DISPATCH = "dispatch"


@dataclass(frozen=True, slots=True)
class Plan:
    """Which phases, how large, how long and how often. `shapes` says how much is under way in a lifecycle."""

    phases: frozenset[Phase]
    pending: int
    agents: int
    seconds: float
    runs: int
    creations_per_second: float
    warm_up_s: float = 1.0
    shapes: dict[Calls, Shape] = field(default_factory=lambda: dict(SHAPES))


@dataclass(slots=True)
class QueueFigures:
    """What was measured; empty or None for a phase that was left out."""

    lifecycles: list[queue_lifecycle.LifecycleFigures] = field(default_factory=list)
    decisions: list[queue_decisions.DecisionFigures] = field(default_factory=list)
    backlog: queue_decisions.BacklogFigures | None = None
    dispatch: queue_dispatch.DispatchFigures | None = None

    @property
    def faulty(self) -> bool:
        """Whether a task was lost, or done twice."""
        dispatch = self.dispatch is not None and (self.dispatch.lost or self.dispatch.doubled)
        return bool(dispatch or any(one.faults.any for one in self.lifecycles))

    def to_json(self) -> dict[str, Any]:
        return {
            "lifecycles": [one.to_json() for one in self.lifecycles],
            "decisions": [one.to_json() for one in self.decisions],
            "backlog": None if self.backlog is None else self.backlog.to_json(),
            "dispatch": None if self.dispatch is None else self.dispatch.to_json(),
        }


async def run(data_dir: Path, plan: Plan, say: Say) -> QueueFigures:
    """Raises CommandError if a cluster does not start or a call is refused. `say` gets a line for each step."""
    found = QueueFigures()
    calls = [Calls.SINGLE] if Phase.LIFECYCLE in plan.phases else []
    calls += [Calls.BATCHES, Calls.CLAIMS] if Phase.BATCHES in plan.phases else []
    if calls:
        found.lifecycles = await _lifecycles(data_dir / "lifecycles", plan, calls, say)
    if plan.phases & {Phase.DECISIONS, Phase.MEMORY}:
        await _backlog(data_dir / "backlog", plan, found, say)
    if Phase.DISPATCH in plan.phases:
        async with site(data_dir / "dispatch") as place:
            pace = queue_dispatch.Pace(plan.creations_per_second, plan.seconds, plan.warm_up_s, plan.runs)
            found.dispatch = await queue_dispatch.measure(place, pace, data_dir, say)
    return found


async def _lifecycles(
    data_dir: Path, plan: Plan, calls: Sequence[Calls], say: Say
) -> list[queue_lifecycle.LifecycleFigures]:
    timing = queue_lifecycle.Timing(plan.runs, plan.seconds, plan.warm_up_s)
    async with site(data_dir) as place:
        return [await queue_lifecycle.measure(place, one, plan.shapes[one], timing, say) for one in calls]


async def _backlog(data_dir: Path, plan: Plan, found: QueueFigures, say: Say) -> None:
    allow_files(plan.agents)
    backlog = queue_decisions.Backlog(plan.pending, plan.agents, plan.runs, Phase.DECISIONS in plan.phases)
    async with site(data_dir, ("--offer-timeout-ms", str(OFFER_TIMEOUT_MS))) as place:
        found.decisions, found.backlog = await queue_decisions.measure(place, backlog, say)


def print_figures(found: QueueFigures) -> None:
    """A table for each phase that was measured."""
    if found.lifecycles:
        queue_lifecycle.print_figures(found.lifecycles)
    if found.decisions:
        queue_decisions.print_decisions(found.decisions)
    if found.backlog is not None:
        queue_decisions.print_backlog(found.backlog)
    if found.dispatch is not None:
        queue_dispatch.print_figures(found.dispatch)
