"""A short run against real nodes. `HIVE_NEMESIS_S` makes it longer, `HIVE_NEMESIS_SEED` another one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.nemesis.history import OK
from tests.nemesis.plan import KINDS, MEMBERSHIP
from tests.nemesis.run import Order, Report, run
from tests.nemesis.summary import summary
from tests.process.running import show

pytestmark = pytest.mark.process

SECONDS = float(os.environ.get("HIVE_NEMESIS_S", "15"))
SEED = int(os.environ.get("HIVE_NEMESIS_SEED", "1"))
OVERTIME_S = 240.0
SHORT_S = 8.0


def must_hold(tmp_path: Path, seconds: float, without: Collection[str] = (), blows_min: int = 1) -> Report:
    """A run without a violation."""
    order = Order(SEED, seconds, 3, tmp_path / "run", without, blows_min=blows_min)
    (tmp_path / "run").mkdir()
    report = asyncio.run(asyncio.wait_for(run(order, lambda _: None), seconds + OVERTIME_S))
    show(summary(report))
    if report.violations:
        report.history.save(tmp_path / "history")
    assert report.violations == [], f"the history is kept in {tmp_path}\n{summary(report)}"
    return report


def test_no_violation(tmp_path: Path) -> None:
    report = must_hold(tmp_path, SECONDS)
    # A run in which nothing happened would prove nothing.
    done = {op.kind for op in report.history.ops if op.outcome == OK}
    assert done >= {"append", "cas", "claim", "finish", "read", "release", "stale", "submit", "take", "write"}
    assert report.history.faults
    assert {page.follower[:-1] for page in report.history.pages} == {"pages", "stream"}


def test_members_come_and_go_and_one_has_a_damaged_state(tmp_path: Path) -> None:
    kinds = MEMBERSHIP | {"damaged state"}
    # Two of them are on members, whatever the plan begins with.
    report = must_hold(tmp_path, SHORT_S, set(KINDS) - kinds, blows_min=3)
    assert {fault.kind for fault in report.history.faults} <= kinds
    if any(fault.kind == "damaged state" for fault in report.history.faults):
        assert report.history.doubts
    asked = {node_id for op in report.history.ops for node_id in op.nodes}
    assert asked >= {"n1", "n2", "n3", "n4"}, "clients have learned where a new node is"
    assert "n4" in {page.node for page in report.history.pages}
