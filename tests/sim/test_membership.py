"""Membership that changes while everything goes on: scripts, seeds, and what happens without each of its rules."""

from __future__ import annotations

import pytest

from tests.sim.membership_mutations import MEMBERSHIP_MUTATIONS
from tests.sim.membership_plots import MEMBERSHIP_PLOTS
from tests.sim.mutations import Mutation, mutated
from tests.sim.simulation import simulate


@pytest.mark.parametrize("plot", sorted(MEMBERSHIP_PLOTS))
def test_plots_end_well(plot: str) -> None:
    assert MEMBERSHIP_PLOTS[plot]() == []


@pytest.mark.parametrize("mutation", MEMBERSHIP_MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_missing_rule_is_noticed(mutation: Mutation) -> None:
    with mutated(mutation):
        assert _is_noticed(mutation), f"no seed of {mutation.seeds} notices"


def _is_noticed(mutation: Mutation) -> bool:
    if mutation.plot:
        return bool(MEMBERSHIP_PLOTS[mutation.plot]())
    seeds = range(mutation.first, mutation.first + mutation.seeds)
    return any(simulate(seed, nodes=mutation.nodes, focus=mutation.focus).violations for seed in seeds)


@pytest.mark.parametrize(("first", "nodes"), [(500, 3), (510, 3), (520, 5)])
def test_nothing_goes_wrong(first: int, nodes: int) -> None:
    changes = rebuilds = 0
    for seed in range(first, first + 8):
        report = simulate(seed, nodes=nodes, focus="members")
        assert report.violations == [], "\n".join([f"seed {seed}:", *report.violations, *report.transcript[-40:]])
        changes += report.figures["member_changes"]
        rebuilds += report.figures["rebuilds"]
    assert changes > 20
    assert rebuilds > 0
