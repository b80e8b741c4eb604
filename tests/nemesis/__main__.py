"""`python -m tests.nemesis`: one run of so many minutes; exit status 1 for a violation."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.nemesis.plan import KINDS
from tests.nemesis.run import Order, run
from tests.nemesis.summary import figures, summary


def main() -> int:
    """Run, print the summary, keep what shows a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the nemesis works")
    parser.add_argument("--seed", type=int, default=0, help="picks the plan; 0: a new one")
    parser.add_argument("--nodes", type=int, choices=(3, 5), default=3)
    parser.add_argument("--without", choices=KINDS, nargs="*", default=[], help="kinds of faults to leave out")
    parser.add_argument("--only", choices=KINDS, nargs="*", default=[], help="kinds of faults to do")
    parser.add_argument("--netns", action="store_true", help="each node in a network namespace of its own (as root)")
    parser.add_argument("--keep", action="store_true", help="keep history, logs and data also without a violation")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON; all else goes to stderr")
    options = parser.parse_args()
    say = _say_aside if options.json else _say
    seed = options.seed or time.time_ns() // 1_000_000 % 1_000_000 + 1
    directory = Path(tempfile.mkdtemp(prefix="hive-nemesis-"))
    without = set(options.without) | (set(KINDS) - set(options.only) if options.only else set())
    order = Order(seed, options.minutes * 60, options.nodes, directory, without, options.netns)
    report = asyncio.run(run(order, say))
    say(summary(report))
    if without and not options.only:
        say(f"left out: {', '.join(sorted(without))}")
    if report.violations or options.keep:
        report.history.save(directory / "history")
        (directory / "history" / "summary.txt").write_text(summary(report) + "\n" + "\n".join(report.violations))
        say(f"history, logs and data are kept in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    say(f"the same plan again: make nemesis MINUTES={options.minutes:g} SEED={seed} NODES={options.nodes}")
    if options.json:
        _say(msgspec.json.encode(figures(report)).decode())
    return 1 if report.violations else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _say_aside(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
