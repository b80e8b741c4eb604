"""Each promise kept, and broken in every way its rule knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.nemesis.histories import Script
from tests.nemesis.history import FAILED, REFUSED, UNKNOWN, Page, Seen
from tests.nemesis.promises import (
    Ending,
    fences_crossed,
    results_lost_or_doubled,
    revisions_behind_time,
    revisions_going_back,
    states_that_differ,
    watches_with_gaps,
)


def shown(revision: int, invoke_s: float, *, node: str = "n1", run: str = "r", strong: bool = False) -> Seen:
    return Seen(node, run, revision, invoke_s, invoke_s + 0.5, strong)


def test_revisions_going_back() -> None:
    assert revisions_going_back([shown(5, 0), shown(5, 1), shown(6, 2)]) == []
    assert len(revisions_going_back([shown(5, 0), shown(4, 1)])) == 1
    # At the same time, on another node, in another run, or the first answer again: no promise.
    assert revisions_going_back([shown(5, 0), shown(4, 0.4)]) == []
    assert revisions_going_back([shown(5, 0), shown(4, 1, node="n2"), shown(3, 1, run="s")]) == []
    again = shown(4, 1)
    again.replayed = True
    assert revisions_going_back([shown(5, 0), again]) == []


def test_linearizable_reads_behind_time() -> None:
    written = Script("register-1").add("write", {"value": "a"}, revision=7).ops
    assert revisions_behind_time(written, [shown(7, 1, strong=True), shown(6, 0.4, strong=True), shown(6, 1)]) == []
    assert len(revisions_behind_time(written, [shown(6, 1, strong=True)])) == 1


def test_writes_behind_time() -> None:
    right = Script("register-1").add("write", revision=7).add("append", revision=8).add("write", revision=0)
    assert revisions_behind_time(right.ops, []) == []
    wrong = Script("register-1").add("write", revision=7).add("append", revision=6)
    assert len(revisions_behind_time(wrong.ops, [])) == 1
    twice = Script("register-1").add("write", revision=7, lasts_s=5).add("append", revision=7)
    assert len(revisions_behind_time(twice.ops, [])) == 1


def claims() -> Script:
    script = Script("duel-1").add("claim", {"agent": "ann"}, {"attempt": 1}, client="ann")
    return script.add("claim", {"agent": "bob"}, {"attempt": 2}, client="bob")


def test_fences() -> None:
    speaks: dict[str, Any] = {"agent": "ann", "attempt": 1}
    assert fences_crossed(claims().add("complete", {"agent": "bob", "attempt": 2}).ops) == []
    assert fences_crossed(claims().add("complete", speaks, outcome=REFUSED).ops) == []
    assert fences_crossed(claims().add("complete", speaks, at_s=1.2).ops) == []
    assert len(fences_crossed(claims().add("complete", speaks).ops)) == 1
    assert len(fences_crossed(claims().add("release", speaks).ops)) == 1
    assert len(fences_crossed(claims().add("claim", {"agent": "cid"}, {"attempt": 2}, client="cid").ops)) == 1


def test_fences_of_taken_work() -> None:
    taken = Script("").add("take", {"agent": "ann"}, {"grants": [["t1", 1]]}, client="ann")
    taken.add("take", {"agent": "bob"}, {"grants": [["t2", 1], ["t1", 2]]}, client="bob")
    stale = {"agent": "ann", "task_id": "t1", "attempt": 1, "token": "x"}
    assert len(fences_crossed(taken.add("finish", stale).ops)) == 1


def work() -> tuple[Script, Ending]:
    script = Script("").add("submit", {"label": "a"}, {"task_id": "t1"})
    script.add("submit", {"label": "b"}, {"task_id": "t2"})
    script.add("submit", {"label": "c"}, outcome=UNKNOWN).add("submit", {"label": "d"}, outcome=FAILED)
    script.add("finish", {"task_id": "t1", "attempt": 1, "token": "x"})
    script.add("finish", {"task_id": "t2", "attempt": 1, "token": "y"}, outcome=REFUSED)
    tasks = [("t1", "a", "completed", 1, "x"), ("t2", "b", "running", 2, "")]
    return script, Ending(tasks=tasks, results=[("t1", 1, "x")])


def test_results() -> None:
    script, ending = work()
    assert results_lost_or_doubled(script.ops, ending) == []
    unknown_happened = replace(ending, tasks=[*ending.tasks, ("t3", "c", "pending", 0, "")])
    assert results_lost_or_doubled(script.ops, unknown_happened) == []
    script.add("finish", {"task_id": "t2", "attempt": 2, "token": "z"}, outcome=UNKNOWN)
    done = [ending.tasks[0], ("t2", "b", "completed", 2, "z")]
    assert results_lost_or_doubled(script.ops, Ending(done, [("t1", 1, "x"), ("t2", 2, "z")])) == []


T1, T2 = ("t1", "a", "completed", 1, "x"), ("t2", "b", "running", 2, "")


@pytest.mark.parametrize(
    "ending",
    [
        Ending([T2], []),
        Ending([("t9", "a", "completed", 1, "x"), T2], [("t9", 1, "x")]),
        Ending([T1, T2, ("t3", "b", "pending", 0, "")], [("t1", 1, "x")]),
        Ending([T1, T2, ("t3", "d", "pending", 0, "")], [("t1", 1, "x")]),
        Ending([T1, T2, ("t3", "nobody's", "pending", 0, "")], [("t1", 1, "x")]),
        Ending([("t1", "a", "running", 2, ""), T2], []),
        Ending([("t1", "a", "completed", 2, "w"), T2], [("t1", 2, "w")]),
        Ending([T1, ("t2", "b", "completed", 1, "y")], [("t1", 1, "x"), ("t2", 1, "y")]),
        Ending([T1, T2], []),
        Ending([T1, T2], [("t1", 1, "x"), ("t1", 1, "x")]),
        Ending([T1, T2], [("t1", 1, "x"), ("t1", 2, "w")]),
        Ending([T1, T2], [("t1", 1, "x"), ("t2", 2, "z")]),
        Ending([T1, T2], [("t1", 1, "x"), ("t8", 1, "v")]),
    ],
    ids=[
        "task lost", "another id", "submitted twice", "happened though it failed", "from nowhere", "result lost",
        "result replaced", "refused result counts", "event lost", "event doubled", "second result",
        "event without result", "event of no task",
    ],
)  # fmt: skip
def test_results_lost_or_doubled(ending: Ending) -> None:
    script, _ = work()
    assert results_lost_or_doubled(script.ops, ending) != []


FEED = {1: ["1.0 a"], 2: ["2.0 b", "2.1 c"], 4: ["4.0 d"]}


def page(from_revision: int, next_revision: int, *messages: tuple[int, list[str]]) -> Page:
    return Page("pages1", "n1", from_revision, next_revision, list(messages))


def test_watches() -> None:
    ending = Ending(feeds={"n1": FEED, "n2": dict(FEED)})
    pages = [page(1, 3, (1, FEED[1]), (2, FEED[2])), page(3, 3), page(3, 5, (4, FEED[4]))]
    written = Script("register-1").add("write", revision=4).ops
    assert watches_with_gaps(written, pages, ending) == []


@pytest.mark.parametrize(
    "told",
    [
        page(1, 3, (1, FEED[1])),
        page(1, 3, (2, FEED[2]), (1, FEED[1])),
        page(1, 3, (1, FEED[1]), (2, ["2.0 b"])),
        page(1, 3, (1, FEED[1]), (1, FEED[1]), (2, FEED[2])),
        page(1, 3, (1, FEED[1]), (2, FEED[2]), (4, FEED[4])),
        page(1, 6, (1, FEED[1]), (2, FEED[2]), (4, ["4.0 e"])),
    ],
    ids=["gap", "disorder", "half a revision", "twice", "ahead", "another change"],
)
def test_watches_with_gaps(told: Page) -> None:
    assert len(watches_with_gaps([], [told], Ending(feeds={"n1": FEED}))) == 1


def test_feeds_that_differ_or_miss_a_write() -> None:
    assert len(watches_with_gaps([], [], Ending(feeds={"n1": FEED, "n2": FEED | {4: ["4.0 e"]}}))) == 1
    written = Script("register-1").add("write", revision=3).ops
    assert len(watches_with_gaps(written, [], Ending(feeds={"n1": FEED}))) == 1
    assert watches_with_gaps([], [], Ending()) != []


def test_states() -> None:
    same = Ending(digests={"n1": "7:a", "n2": "7:a"}, contents={"n1": {"task t": "x"}, "n2": {"task t": "x"}})
    assert states_that_differ(same) == []
    assert len(states_that_differ(replace(same, digests={"n1": "7:a", "n2": "7:b"}))) == 1
    assert len(states_that_differ(replace(same, contents={"n1": {"task t": "x"}, "n2": {"task t": "y"}}))) == 1
    assert len(states_that_differ(replace(same, contents={"n1": {"task t": "x"}, "n2": {}}))) == 1
    assert states_that_differ(Ending()) != []
