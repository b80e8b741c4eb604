"""Only a run in which everything is as it must be is good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ops.demo.ledger import Verdict
from ops.demo.report import DemoReport, Rejoined, print_report
from ops.demo.stages import Stage
from ops.demo.tally import Tally
from ops.failover import Failover

STAGE = Stage(1.5, "killed", "lease over", "t", "scheduled", ("not_before",), ("stand-in",), {"offline": 1})
GOOD = DemoReport(
    files=1,
    skipped=0,
    verdict=Verdict(1, 1, (), (), (), 0),
    events_written=1,
    killed_at_completed=1,
    failover=Failover("n1", 1, 200.0),
    rejoined=Rejoined("n1", 900.0, 0),
    leader_after="n2",
    term_after=2,
    elapsed_s=3.0,
    stages=(STAGE,),
    trials_good=True,
    tally=Tally(),
)


def test_a_good_report_says_so_and_shows_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert GOOD.good
    assert GOOD.to_json()["stages"][0]["filtered"] == {"offline": 1}
    print_report(GOOD)
    said = capsys.readouterr().out
    for part in ("lease over", "scheduled; not_before; may go to stand-in", "nothing was lost"):
        assert part in said


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, stages=(STAGE, replace(STAGE, wrong="status is 'running', not 'scheduled'"))),
        replace(GOOD, stages=()),
        replace(GOOD, trials_good=False),
        replace(GOOD, tally=None),
        replace(GOOD, rejoined=Rejoined("n1", 900.0, 1)),
        replace(GOOD, verdict=Verdict(1, 0, ("t",), (), (), 0)),
    ],
)
def test_whatever_is_wrong_makes_it_bad(bad: DemoReport, capsys: pytest.CaptureFixture[str]) -> None:
    assert not bad.good
    print_report(bad)
    assert "FAILED" in capsys.readouterr().out
