"""`python -m tests.sim`: many seeds on all cores, or one with its transcript."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time

from tests.sim.many import fresh_seed, nodes_of, reports
from tests.sim.plan import FOCI
from tests.sim.simulation import Report

_TRANSCRIPTS_MAX = 1
_TOLD_MAX = 10
_TRANSCRIPT_LINES = 60
_PROGRESS_S = 10.0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument(
        "--fresh", nargs="?", const="", metavar="RUN", help="seeds nobody ran before: of this run, or of today"
    )
    parser.add_argument("--nodes", type=int, choices=(3, 5), help="cluster size; by default 3, and 5 for every fourth")
    parser.add_argument("--focus", choices=sorted(FOCI), help="kind of trouble; by default the seed decides")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; by default one a core")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--verbose", action="store_true", help="print the transcript")
    return parser.parse_args()


def main() -> int:
    """Run seeds; 1 if any of them found something wrong."""
    options = _options()
    first, count = (options.seed, 1) if options.seed is not None else (options.first, options.seeds)
    if options.fresh is not None:
        name = options.fresh or datetime.datetime.now(datetime.UTC).date().isoformat()
        first = fresh_seed(name)
        sys.stdout.write(f"seeds of {name}: to repeat, --seeds {count} --first {first}\n")
    failed: list[Report] = []
    totals: dict[str, int] = {}
    began_s = told_s = time.perf_counter()
    running = reports(
        range(first, first + count),
        nodes=options.nodes,
        focus=options.focus,
        jobs=min(options.jobs, count),
        verbose=options.verbose,
    )
    for done, report in enumerate(running, 1):
        if options.verbose:
            sys.stdout.write("\n".join(report.transcript) + "\n")
        for name, figure in report.figures.items():
            totals[name] = totals.get(name, 0) + figure
        if report.violations:
            failed.append(report)
            if len(failed) <= _TOLD_MAX:
                _tell(report, options, transcript=len(failed) <= _TRANSCRIPTS_MAX and not options.verbose)
        if time.perf_counter() - told_s > _PROGRESS_S:
            told_s = time.perf_counter()
            rate = done / (told_s - began_s) * 60
            sys.stderr.write(f"{done} of {count} seeds, {len(failed)} failed, {rate:.0f} a minute\n")
    took_s = time.perf_counter() - began_s
    sys.stdout.write(", ".join(f"{figure} {name}" for name, figure in totals.items()) + "\n")
    numbers = sorted(report.seed for report in failed)
    sys.stdout.write(
        f"{count} seeds, {len(failed)} failed {numbers[:20]}, {took_s:.1f} s, {count / took_s * 60:.0f} a minute\n"
    )
    return 1 if failed else 0


def _tell(report: Report, options: argparse.Namespace, *, transcript: bool) -> None:
    """What was wrong with a seed, its last lines, and how to see all of them."""
    nodes = options.nodes or nodes_of(report.seed)
    focus = "" if options.focus is None else f" --focus {options.focus}"
    sys.stdout.write(f"seed {report.seed} ({nodes} nodes):\n")
    if transcript:
        sys.stdout.writelines(f"    {line}\n" for line in report.transcript[-_TRANSCRIPT_LINES:])
    sys.stdout.writelines(f"  {violation}\n" for violation in report.violations)
    sys.stdout.write(f"  all of it: python -m tests.sim --seed {report.seed} --nodes {nodes}{focus} --verbose\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
