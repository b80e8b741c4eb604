"""Seeds of all kinds: nothing acknowledged is lost, nothing happens twice, and the cluster always recovers."""

from __future__ import annotations

import pytest

from tests.sim.many import nodes_of
from tests.sim.plan import FOCI
from tests.sim.simulation import Report, simulate

_TOGETHER = 8

FOUND_SOMETHING = (7, 12, 15, 19, 26, 73, 157, 164, 263, 335, 401, 489, 500, 809, 1314, 1691, 2125905)
"""Seeds that have shown a fault once. What they throw has changed since; they are as good as others."""


def _describe(report: Report) -> str:
    return "\n".join([f"seed {report.seed}:", *report.violations, "...", *report.transcript[-40:]])


@pytest.mark.parametrize("first", range(0, 64, _TOGETHER))
def test_nothing_goes_wrong(first: int) -> None:
    for seed in range(first, first + _TOGETHER):
        report = simulate(seed, nodes=nodes_of(seed))
        assert report.violations == [], _describe(report)


@pytest.mark.parametrize("focus", sorted(FOCI))
def test_nothing_goes_wrong_in_depth(focus: str) -> None:
    for seed in range(100, 100 + _TOGETHER):
        report = simulate(seed, nodes=nodes_of(seed), focus=focus)
        assert report.violations == [], _describe(report)


@pytest.mark.parametrize("seed", FOUND_SOMETHING)
def test_what_was_found_is_gone(seed: int) -> None:
    report = simulate(seed, nodes=nodes_of(seed))
    assert report.violations == [], _describe(report)


def test_the_simulator_does_something() -> None:
    """Seeds without writes, faults or snapshots would prove nothing."""
    reports = [simulate(seed, nodes=nodes_of(seed)) for seed in range(200, 208)]
    totals = {name: sum(report.figures[name] for report in reports) for name in reports[0].figures}
    assert totals["acknowledged"] > 500
    assert totals["reads"] > 100
    assert totals["lives"] > 8 * 4
    assert totals["terms"] > 16
    assert totals["installs"] > 0
    assert totals["grants_with_locks"] > 20
    assert totals["budgets_used_up"] > 4


def test_leases_are_held_and_expire() -> None:
    """Seeds in which no lease ends would show nothing about leases."""
    reports = [simulate(seed, nodes=nodes_of(seed), focus="leases") for seed in range(200, 208)]
    assert sum(report.figures["leases"] for report in reports) > 0
    assert sum(report.figures["changes"] for report in reports) > 1_000
