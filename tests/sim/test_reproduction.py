"""A seed is the same in every process, or a failing one could not be looked into."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.many import fresh_seed, reports

_ROOT = Path(__file__).parents[2]


def _transcript(hash_seed: str, seed: int, focus: str) -> str:
    command = [sys.executable, "-m", "tests.sim", "--seed", str(seed), "--focus", focus, "--verbose"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return "\n".join(line for line in done.stdout.splitlines() if not line.endswith(" a minute"))


@pytest.mark.parametrize(("seed", "focus"), [(4, "all"), (7, "leases")])
def test_a_seed_is_the_same_in_every_process(seed: int, focus: str) -> None:
    first, second = _transcript("1", seed, focus), _transcript("2", seed, focus)
    assert len(first.splitlines()) > 100
    assert first == second


def test_a_seed_is_the_same_on_many_processes_as_on_one() -> None:
    seeds = range(300, 304)
    assert [report.figures for report in reports(seeds, jobs=2)] == [report.figures for report in reports(seeds)]


def test_fresh_seeds_are_those_of_their_run() -> None:
    assert fresh_seed("2026-01-01") == fresh_seed("2026-01-01") != fresh_seed("2026-01-02")
