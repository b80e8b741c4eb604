"""The table at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from tests.nemesis.history import FAILED, OK, REFUSED, UNKNOWN
from tests.nemesis.run import Report

OUTCOMES = (OK, REFUSED, FAILED, UNKNOWN)
UNAVAILABLE_OVER_S = 0.5
"""A gap between two acknowledged writes counts as unavailable as far as it is longer."""
LINES_MAX = 12


def summary(report: Report) -> str:
    """Operations by kind and outcome, faults by kind, time without writes, the verdict on each rule."""
    history = report.history
    lines = [f"seed {report.seed}, {report.nodes} nodes, {report.lasted_s:.0f} s", ""]
    lines.append(f"{'operation':<12}" + "".join(f"{name:>10}" for name in OUTCOMES))
    counts = Counter((op.kind, op.outcome) for op in history.ops)
    for kind in sorted({op.kind for op in history.ops}):
        lines.append(f"{kind:<12}" + "".join(f"{counts[kind, name]:>10}" for name in OUTCOMES))
    totals = Counter(op.outcome for op in history.ops)
    lines.append(f"{'all':<12}" + "".join(f"{totals[name]:>10}" for name in OUTCOMES))
    changes = sum(len(page.messages) for page in history.pages)
    lines += ["", f"{len(history.seen)} replies, {changes} messages to followers", ""]
    faults = Counter(fault.kind for fault in history.faults if not fault.detail.startswith("skipped"))
    skipped = sorted({f"{fault.kind} {fault.detail}" for fault in history.faults if fault.detail.startswith("skipped")})
    lines += [f"{kind:<24}{count:>4}" for kind, count in sorted(faults.items())]
    lines += [f"{'faults':<24}{faults.total():>4}", *skipped, ""]
    total_s, longest_s = unavailable(history.write_acknowledged_s, report.lasted_s)
    lines.append(f"without acknowledged writes: {total_s:.1f} s in all, {longest_s:.1f} s at the longest")
    for rule, broken in report.broken.items():
        lines.append(f"{rule:<44}{'ok' if not broken else f'BROKEN, {len(broken)} times'}")
        lines += [f"  {line}" for line in broken[:LINES_MAX]]
    lines.append("verdict: " + ("VIOLATION" if report.violations else "no violation"))
    return "\n".join(lines)


def unavailable(acknowledged_s: Iterable[float], lasted_s: float) -> tuple[float, float]:
    """(all, longest) seconds between acknowledged writes, each beyond `UNAVAILABLE_OVER_S`."""
    times_s = [0.0, *sorted(acknowledged_s), lasted_s]
    gaps_s = [max(0.0, after - before - UNAVAILABLE_OVER_S) for before, after in pairwise(times_s)]
    return sum(gaps_s), max(gaps_s)
