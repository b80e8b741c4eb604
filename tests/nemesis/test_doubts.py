"""What is in doubt does not count, and nothing else is lost with it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.nemesis.doubts import judged, served_out_of_service
from tests.nemesis.histories import NODE, Script
from tests.nemesis.history import FAILED, REFUSED, UNKNOWN, Doubt, History, Misspoken, Op, Page, Seen
from tests.nemesis.models import broken_keys

OTHER = "n2"


def history_of(ops: list[Op], *doubts: Doubt) -> History:
    history = History()
    history.ops, history.doubts = ops, list(doubts)
    return history


def lying() -> Script:
    """A register whose read on the damaged node shows what nobody wrote."""
    script = Script("register-1").add("create", revision=3).add("write", {"value": "a"}, revision=5)
    return script.add("read", {}, {"value": "z", "revision": 9}, revision=9)


def test_a_read_in_doubt_shows_nothing() -> None:
    assert broken_keys(judged(history_of(lying().ops)).ops) != []
    assert broken_keys(judged(history_of(lying().ops, Doubt(NODE, 1.9, 2.6))).ops) == []


@pytest.mark.parametrize(
    "doubt",
    [Doubt(OTHER, 1.9, 2.6), Doubt(NODE, 0.0, 1.9), Doubt(NODE, 2.6, 9.0)],
    ids=["another node", "before", "after"],
)
def test_other_reads_are_judged(doubt: Doubt) -> None:
    assert broken_keys(judged(history_of(lying().ops, doubt)).ops) != []


@pytest.mark.parametrize("outcome", ["ok", REFUSED, FAILED, UNKNOWN])
def test_a_write_in_doubt_may_have_happened_or_not(outcome: str) -> None:
    ops = Script("register-1").add("write", {"value": "a"}, {"any": 1}, revision=7, outcome=outcome).ops
    (op,) = judged(history_of(ops, Doubt(NODE, 0.0, 1.0))).ops
    assert (op.outcome, op.value, op.revision, op.args) == (UNKNOWN, {}, 0, {"value": "a"})


@pytest.mark.parametrize(
    ("nodes", "outcome", "expected"),
    [
        ([NODE, OTHER], "ok", ("ok", False)),
        ([OTHER, NODE], "ok", (UNKNOWN, True)),
        ([OTHER, NODE], REFUSED, (UNKNOWN, True)),
        ([NODE, OTHER], FAILED, (UNKNOWN, False)),
        ([NODE, OTHER], UNKNOWN, (UNKNOWN, False)),
    ],
    ids=["answered elsewhere", "answered here", "refused here", "failed", "unknown"],
)
def test_what_counts_is_who_answered(nodes: list[str], outcome: str, expected: tuple[str, bool]) -> None:
    ops = Script("register-1").add("write", {"value": "a"}, revision=7, outcome=outcome).ops
    ops[0].nodes = nodes
    (op,) = judged(history_of(ops, Doubt(NODE, 0.4, 1.0))).ops
    assert (op.outcome, op.over) == expected


def test_a_write_in_doubt_that_happened_did_before_it_was_answered() -> None:
    script = Script("register-1").add("create", revision=3).add("write", {"value": "a"}, revision=5)
    script.add("read", {}, {"value": None, "revision": 3}, revision=3)
    script.add("read", {}, {"value": "a", "revision": 5}, revision=5)
    for op in script.ops[2:] + script.ops[:1]:
        op.nodes = [OTHER]
    found = judged(history_of(script.ops, Doubt(NODE, 0.0, 9.0))).ops
    assert broken_keys(found[:3]) == []
    assert broken_keys([*found[:2], found[3]]) == []
    assert broken_keys(found) != []


def told() -> History:
    history = History()
    for at_s in (0.0, 2.0, 4.0):
        history.seen.append(Seen(NODE, "r", 5, at_s, at_s + 0.5, strong=False, ask="GET /x 200", status=200))
        history.pages.append(Page("pages1", NODE, 1, 3, [(1, ["1.0 a"])], at_s, at_s + 0.5))
        history.misspoken.append(Misspoken(NODE, f"at {at_s}", at_s, at_s + 0.5))
    return history


def test_replies_pages_and_wrong_words_in_doubt() -> None:
    history = told()
    history.doubts = [Doubt(NODE, 1.0, 3.0)]
    found = judged(history)
    assert [one.invoke_s for one in found.seen] == [0.0, 4.0]
    assert [page.begin_s for page in found.pages] == [0.0, 4.0]
    assert found.defects == ["at 0.0", "at 4.0"]


def test_a_stream_opened_in_doubt_is_in_doubt() -> None:
    history = told()
    history.pages[0].end_s = 1.2
    history.doubts = [Doubt(NODE, 1.0, 3.0)]
    assert len(judged(history).pages) == 1


@pytest.mark.parametrize(
    ("doubt", "broken"),
    [
        (Doubt(NODE, 1.0, 3.0), 0),
        (Doubt(NODE, 1.0, 3.0, noticed_s=2.1), 0),
        (Doubt(OTHER, 1.0, 3.0, noticed_s=1.5), 0),
        (Doubt(NODE, 1.0, 3.0, noticed_s=1.5), 2),
    ],
    ids=["not noticed", "asked before", "another node", "it went on"],
)
def test_who_is_out_of_service_says_nothing(doubt: Doubt, broken: int) -> None:
    history = told()
    history.doubts = [doubt]
    assert len(served_out_of_service(history)) == broken


def test_a_refusal_and_an_empty_page_are_no_service() -> None:
    history = told()
    history.doubts = [Doubt(NODE, 1.0, 3.0, noticed_s=1.5)]
    history.seen[1].status, history.pages[1].messages = 503, []
    assert served_out_of_service(history) == []


def test_a_key_made_in_doubt_is_there_with_some_revision() -> None:
    script = Script("register-1").add("create", revision=3).add("read", {}, {"value": None, "revision": 3}, revision=4)
    script.add("read", {}, {"value": None, "revision": 5}, revision=6)
    for op in script.ops[1:]:
        op.nodes = [OTHER]
    found = judged(history_of(script.ops, Doubt(NODE, 0.0, 9.0))).ops
    assert broken_keys(found[:2]) == []
    assert broken_keys(found) != [], "it has only one"


def test_histories_with_doubts_are_kept(tmp_path: Any) -> None:
    history = told()
    history.doubts = [Doubt(NODE, 1.0, 3.0)]
    history.save(tmp_path)
    assert (tmp_path / "doubts.jsonl").read_text().count(NODE) == 1
    assert (tmp_path / "misspoken.jsonl").read_text().count("\n") == 3
