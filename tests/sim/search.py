"""`python -m tests.sim.search`: how often each mutation is noticed, to choose the seeds of `mutations.py`."""

from __future__ import annotations

import argparse
import sys

from tests.sim.membership_mutations import MEMBERSHIP_MUTATIONS
from tests.sim.membership_plots import MEMBERSHIP_PLOTS
from tests.sim.more_mutations import ALL
from tests.sim.mutations import mutated
from tests.sim.plots import PLOTS
from tests.sim.simulation import simulate


def main() -> int:
    """Print, for each mutation, the seeds that notice it."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.search", description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the mutation's name")
    parser.add_argument("--enough", type=int, default=3, help="stop after so many")
    parser.add_argument("--focus", default="", help="instead of the mutation's own")
    parser.add_argument("--nodes", type=int, default=0, help="instead of the mutation's own")
    options = parser.parse_args()
    plots = PLOTS | MEMBERSHIP_PLOTS
    for mutation in ALL + MEMBERSHIP_MUTATIONS:
        if options.only not in mutation.name:
            continue
        if mutation.plot:
            with mutated(mutation):
                sys.stdout.write(f"{mutation.name}: {mutation.plot} {plots[mutation.plot]()[:1]}\n")
            continue
        found: list[int] = []
        what = ""
        with mutated(mutation):
            for seed in range(options.first, options.first + options.seeds):
                report = simulate(seed, nodes=options.nodes or mutation.nodes, focus=options.focus or mutation.focus)
                if report.violations:
                    found.append(seed)
                    what = what or report.violations[0]
                    if len(found) == options.enough:
                        break
        sys.stdout.write(f"{mutation.name}: {found} {what[:110]}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
