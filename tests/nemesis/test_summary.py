"""The figures of a run are those of its history."""

from __future__ import annotations

from tests.nemesis.histories import Script
from tests.nemesis.history import REFUSED, UNKNOWN, Fault, History, Page
from tests.nemesis.run import Report
from tests.nemesis.summary import figures, summary, unavailable


def report(broken: list[str]) -> Report:
    history = History()
    script = Script("register-1").add("write").add("write", outcome=UNKNOWN).add("read").add("cas", outcome=REFUSED)
    for op in script.ops:
        history.add(op, is_write=op.kind != "read")
    history.pages.append(Page("pages1", "n1", 1, 3, [(1, ["a"]), (2, ["b"])]))
    history.faults = [
        Fault("kill all", "n1", 0.0, 1.0),
        Fault("kill all", "n2", 1.0, 2.0),
        Fault("unplugged", "skipped: needs --netns", 2.0, 2.0),
    ]
    return Report(7, 3, history, 4.0, {"a rule": broken, "another": []})


def test_figures_of_a_good_run() -> None:
    found = figures(report([]))
    assert found.operations["write"] == {"ok": 1, "refused": 0, "failed": 0, "unknown": 1}
    assert found.operations["cas"]["refused"] == 1
    assert (found.faults, found.faults_total) == ({"kill all": 2}, 2)
    assert found.skipped == ["unplugged skipped: needs --netns"]
    assert found.followed_changes == 2
    assert (found.rules, found.verdict) == ({"a rule": 0, "another": 0}, "no violation")
    assert (found.unavailable_s, found.unavailable_longest_s) == (3.0, 3.0)
    text = summary(report([]))
    assert "verdict: no violation" in text
    assert "unplugged skipped: needs --netns" in text


def test_a_violation_is_said_aloud() -> None:
    found = figures(report(["this is wrong"]))
    assert (found.rules["a rule"], found.violations, found.verdict) == (1, ["a rule: this is wrong"], "violation")
    text = summary(report(["this is wrong"]))
    assert "verdict: VIOLATION" in text
    assert "  this is wrong" in text


def test_unavailable_time() -> None:
    assert unavailable([1.0, 1.2, 4.2], 4.3) == (3.0, 2.5)
    assert unavailable([], 0.4) == (0.0, 0.0)
