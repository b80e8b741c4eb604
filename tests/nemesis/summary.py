"""The table at the end of a run, for readers and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from tests.nemesis.history import FAILED, OK, REFUSED, UNKNOWN
from tests.nemesis.run import Report

OUTCOMES = (OK, REFUSED, FAILED, UNKNOWN)
UNAVAILABLE_OVER_S = 0.5
"""A gap between two acknowledged writes counts as unavailable as far as it is longer."""
LINES_MAX = 12
SKIPPED = "skipped"


class Figures(msgspec.Struct, kw_only=True):
    """One run in numbers. `operations` by kind and outcome; `faults` that fell, by kind; `skipped` with the reason;
    `rules` with how often each was broken; seconds without acknowledged writes count beyond `UNAVAILABLE_OVER_S`."""

    seed: int
    nodes: int
    lasted_s: float
    operations: dict[str, dict[str, int]]
    replies: int
    followed_changes: int
    faults: dict[str, int]
    faults_total: int
    skipped: list[str]
    unavailable_s: float
    unavailable_longest_s: float
    rules: dict[str, int]
    violations: list[str]
    verdict: str


def figures(report: Report) -> Figures:
    """Count it all."""
    history = report.history
    counts = Counter((op.kind, op.outcome) for op in history.ops)
    kinds = sorted({op.kind for op in history.ops})
    fell = Counter(fault.kind for fault in history.faults if not fault.detail.startswith(SKIPPED))
    skipped = {f"{fault.kind} {fault.detail}" for fault in history.faults if fault.detail.startswith(SKIPPED)}
    total_s, longest_s = unavailable(history.write_acknowledged_s, report.lasted_s)
    return Figures(
        seed=report.seed,
        nodes=report.nodes,
        lasted_s=round(report.lasted_s, 1),
        operations={kind: {outcome: counts[kind, outcome] for outcome in OUTCOMES} for kind in kinds},
        replies=len(history.seen),
        followed_changes=sum(len(page.messages) for page in history.pages),
        faults=dict(sorted(fell.items())),
        faults_total=fell.total(),
        skipped=sorted(skipped),
        unavailable_s=round(total_s, 1),
        unavailable_longest_s=round(longest_s, 1),
        rules={rule: len(broken) for rule, broken in report.broken.items()},
        violations=report.violations,
        verdict="violation" if report.violations else "no violation",
    )


def summary(report: Report) -> str:
    """Operations by kind and outcome, faults by kind, time without writes, the verdict on each rule."""
    found = figures(report)
    lines = [f"seed {found.seed}, {found.nodes} nodes, {found.lasted_s:.0f} s", ""]
    lines.append(f"{'operation':<12}" + "".join(f"{name:>10}" for name in OUTCOMES))
    totals = {name: sum(counts[name] for counts in found.operations.values()) for name in OUTCOMES}
    for kind, counts in [*found.operations.items(), ("all", totals)]:
        lines.append(f"{kind:<12}" + "".join(f"{counts[name]:>10}" for name in OUTCOMES))
    lines += ["", f"{found.replies} replies, {found.followed_changes} messages to followers", ""]
    lines += [f"{kind:<24}{count:>4}" for kind, count in found.faults.items()]
    lines += [f"{'faults':<24}{found.faults_total:>4}", *found.skipped, ""]
    lines.append(
        f"without acknowledged writes: {found.unavailable_s:.1f} s in all, {found.unavailable_longest_s:.1f} s at the "
        "longest"
    )
    for rule, broken in report.broken.items():
        lines.append(f"{rule:<44}{'ok' if not broken else f'BROKEN, {len(broken)} times'}")
        lines += [f"  {line}" for line in broken[:LINES_MAX]]
    lines.append("verdict: " + found.verdict.upper() if found.violations else f"verdict: {found.verdict}")
    return "\n".join(lines)


def unavailable(acknowledged_s: Iterable[float], lasted_s: float) -> tuple[float, float]:
    """(all, longest) seconds between acknowledged writes, each beyond `UNAVAILABLE_OVER_S`."""
    times_s = [0.0, *sorted(acknowledged_s), lasted_s]
    gaps_s = [max(0.0, after - before - UNAVAILABLE_OVER_S) for before, after in pairwise(times_s)]
    return sum(gaps_s), max(gaps_s)
