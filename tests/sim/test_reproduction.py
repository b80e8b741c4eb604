"""A seed is the same in every process, or a failing one could not be looked into."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def _transcript(hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.sim", "--seed", "4", "--verbose"]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return "\n".join(line for line in done.stdout.splitlines() if not line.endswith("ms a seed"))


def test_a_seed_is_the_same_in_every_process() -> None:
    first, second = _transcript("1"), _transcript("2")
    assert len(first.splitlines()) > 100
    assert first == second
