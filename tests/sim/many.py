"""Many seeds on many processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial

from tests.sim.simulation import Report, simulate


def nodes_of(seed: int) -> int:
    """Three nodes, and five for every fourth seed."""
    return 5 if seed % 4 == 0 else 3


def fresh_seed(name: str) -> int:
    """The first of the seeds of a day, or of a run: others than those of any other."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") * 10_000


def _simulate(nodes: int | None, focus: str | None, verbose: bool, seed: int) -> Report:
    """One seed, in whatever process. A transcript nobody reads is not sent back."""
    try:
        report = simulate(seed, nodes=nodes or nodes_of(seed), focus=focus)
    except Exception:  # noqa: BLE001 - whatever it is, the other seeds are run all the same
        return Report(seed, ["the simulation itself failed", *traceback.format_exc().splitlines()])
    return report if report.violations or verbose else replace(report, transcript=[])


def reports(
    seeds: Sequence[int], *, nodes: int | None = None, focus: str | None = None, jobs: int = 1, verbose: bool = False
) -> Iterator[Report]:
    """Run the seeds on so many processes; their reports in order."""
    one = partial(_simulate, nodes, focus, verbose)
    if jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(one, seeds, chunksize=4)
