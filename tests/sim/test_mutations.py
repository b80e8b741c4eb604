"""The simulator sees: without any single guard it reports what goes wrong."""

from __future__ import annotations

import pytest

from tests.sim.more_mutations import ALL
from tests.sim.mutations import Change, Mutation, changed, mutated
from tests.sim.plots import PLOTS
from tests.sim.simulation import simulate


@pytest.mark.parametrize("plot", sorted(PLOTS))
def test_plots_end_well(plot: str) -> None:
    assert PLOTS[plot]() == []


@pytest.mark.parametrize("mutation", ALL, ids=lambda mutation: mutation.name)
def test_a_missing_guard_is_noticed(mutation: Mutation) -> None:
    with mutated(mutation):
        assert _is_noticed(mutation), f"no seed of {mutation.seeds} notices"


def _is_noticed(mutation: Mutation) -> bool:
    if mutation.plot:
        return bool(PLOTS[mutation.plot]())
    seeds = range(mutation.first, mutation.first + mutation.seeds)
    return any(simulate(seed, nodes=mutation.nodes, focus=mutation.focus).violations for seed in seeds)


def test_mutations_are_undone() -> None:
    from cluster.intake import Intake

    before = Intake.take
    with mutated(next(mutation for mutation in ALL if "repeated batch again" in mutation.name)):
        assert Intake.take is not before
    assert Intake.take is before


def test_a_mutation_of_code_that_has_changed_fails() -> None:
    stale = Change("cluster.intake", "Intake.take", "this is not in it", "pass")
    with pytest.raises(LookupError, match="does not hold this once"), changed(stale):
        pass
