"""A short run against real nodes. `HIVE_NEMESIS_S` makes it longer, `HIVE_NEMESIS_SEED` another one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.nemesis.history import OK
from tests.nemesis.plan import NOTICED_LATE
from tests.nemesis.run import Order, run
from tests.nemesis.summary import summary
from tests.process.running import show

pytestmark = pytest.mark.process

SECONDS = float(os.environ.get("HIVE_NEMESIS_S", "15"))
SEED = int(os.environ.get("HIVE_NEMESIS_SEED", "1"))
OVERTIME_S = 240.0


def test_no_violation(tmp_path: Path) -> None:
    order = Order(SEED, SECONDS, 3, tmp_path / "run", NOTICED_LATE)
    (tmp_path / "run").mkdir()
    report = asyncio.run(asyncio.wait_for(run(order, lambda _: None), SECONDS + OVERTIME_S))
    show(summary(report))
    if report.violations:
        report.history.save(tmp_path / "history")
    assert report.violations == [], f"the history is kept in {tmp_path}\n{summary(report)}"
    # A run in which nothing happened would prove nothing.
    done = {op.kind for op in report.history.ops if op.outcome == OK}
    assert done >= {"append", "cas", "claim", "finish", "read", "release", "stale", "submit", "take", "write"}
    assert report.history.faults
    assert {page.follower[:-1] for page in report.history.pages} == {"pages", "stream"}
