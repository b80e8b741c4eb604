"""`python -m tests.sim`: many seeds, or one with its transcript."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.plan import FOCI
from tests.sim.simulation import simulate


def main() -> int:
    """Run seeds; 1 if any of them found something wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--nodes", type=int, choices=(3, 5), help="cluster size; by default 3, and 5 for every fourth")
    parser.add_argument("--focus", choices=sorted(FOCI), help="kind of trouble; by default the seed decides")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--verbose", action="store_true", help="print the transcript")
    options = parser.parse_args()
    first, count = (options.seed, 1) if options.seed is not None else (options.first, options.seeds)
    failed: list[int] = []
    totals: dict[str, int] = {}
    began_s = time.perf_counter()
    for seed in range(first, first + count):
        report = simulate(seed, nodes=options.nodes or nodes_of(seed), focus=options.focus)
        if options.verbose:
            sys.stdout.write("\n".join(report.transcript) + "\n")
        for name, figure in report.figures.items():
            totals[name] = totals.get(name, 0) + figure
        if report.violations:
            failed.append(seed)
            sys.stdout.write(f"seed {seed} ({options.nodes or nodes_of(seed)} nodes):\n")
            sys.stdout.writelines(f"  {violation}\n" for violation in report.violations)
    took_s = time.perf_counter() - began_s
    sys.stdout.write(f"{count} seeds, {len(failed)} failed {failed[:20]}, {took_s / count * 1000:.0f} ms a seed\n")
    sys.stdout.write(", ".join(f"{figure} {name}" for name, figure in totals.items()) + "\n")
    return 1 if failed else 0


def nodes_of(seed: int) -> int:
    """Three nodes, and five for every fourth seed."""
    return 5 if seed % 4 == 0 else 3


if __name__ == "__main__":
    sys.exit(main())
