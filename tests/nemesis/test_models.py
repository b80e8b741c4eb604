"""Histories of keys that are right, and the same with one lie in them."""

from __future__ import annotations

from typing import Any

from tests.nemesis.histories import Script
from tests.nemesis.history import FAILED, REFUSED, UNKNOWN
from tests.nemesis.models import broken_keys


def judged(script: Script) -> bool:
    """Whether the history is found to be right."""
    broken = broken_keys(script.ops)
    assert all("undecided" not in line for line in broken)
    return not broken


def register() -> Script:
    return Script("register-1").add("create", revision=5).add("write", {"value": "a"}, revision=7)


def seen(value: str | None, revision: int) -> dict[str, Any]:
    return {"value": value, "revision": revision}


def cas(value: str, if_revision: int) -> dict[str, Any]:
    return {"value": value, "if_revision": if_revision}


def test_register() -> None:
    assert judged(register().add("read", {}, seen("a", 7)).add("cas", cas("b", 7), revision=9))
    assert judged(register().add("cas", cas("b", 5), outcome=REFUSED).add("read", {}, seen("a", 7)))
    assert judged(register().add("write", {"value": "b"}, outcome=FAILED).add("read", {}, seen("a", 7)))


def test_register_that_lies() -> None:
    assert not judged(register().add("read", {}, seen(None, 5)))
    assert not judged(register().add("read", {}, seen("a", 8)))
    assert not judged(register().add("cas", cas("b", 7), outcome=REFUSED))
    assert not judged(register().add("write", {"value": "b"}, revision=6))
    assert not judged(register().add("write", {"value": "b"}, outcome=FAILED).add("read", {}, seen("b", 8)))
    assert not judged(register().add("write", {"value": "b"}, revision=9).add("read", {}, seen("a", 7)))


def test_register_lost_update() -> None:
    both = register().add("cas", cas("b", 7), revision=8, at_s=3, lasts_s=5)
    assert not judged(both.add("cas", cas("c", 7), revision=9, at_s=3, lasts_s=5))


def test_register_with_an_unknown_write() -> None:
    unknown = {"value": "b"}
    assert judged(register().add("write", unknown, outcome=UNKNOWN).add("read", {}, seen("a", 7)))
    assert judged(register().add("write", unknown, outcome=UNKNOWN).add("read", {}, seen("b", 11)))
    late = register().add("write", unknown, outcome=UNKNOWN).add("read", {}, seen("a", 7))
    assert judged(late.add("read", {}, seen("b", 11)))
    twice = register().add("write", unknown, outcome=UNKNOWN).add("read", {}, seen("b", 11))
    assert not judged(twice.add("read", {}, seen("a", 7)))
    moving = register().add("write", unknown, outcome=UNKNOWN).add("read", {}, seen("b", 11))
    assert not judged(moving.add("read", {}, seen("b", 12)))


def test_register_whose_answer_did_not_show_its_own_revision() -> None:
    assert judged(register().add("write", {"value": "b"}).add("read", {}, seen("b", 8)))
    assert not judged(register().add("write", {"value": "b"}).add("read", {}, seen("a", 7)))


def events() -> Script:
    one = Script("events-1").add("create", revision=5)
    return one.add("append", {"value": "a", "expected_seq": 0}, {"first_seq": 1, "last_seq": 1}, revision=6)


def append(value: str, expected_seq: int) -> dict[str, Any]:
    return {"value": value, "expected_seq": expected_seq}


def test_events() -> None:
    assert judged(events().add("read", {}, {"values": ["a"]}))
    refused = events().add("append", append("b", 0), {"last_seq": 1}, outcome=REFUSED)
    assert judged(refused.add("append", append("c", 1), {"first_seq": 2, "last_seq": 2}))
    assert judged(events().add("append", append("b", 1), outcome=UNKNOWN).add("read", {}, {"values": ["a", "b"]}))
    assert judged(events().add("append", append("b", 1), outcome=UNKNOWN).add("read", {}, {"values": ["a"]}))


def test_events_that_lie() -> None:
    assert not judged(events().add("read", {}, {"values": []}))
    assert not judged(events().add("read", {}, {"values": ["a", "a"]}))
    assert not judged(events().add("append", append("b", 0), {"first_seq": 1, "last_seq": 1}))
    assert not judged(events().add("append", append("b", 1), {"first_seq": 3, "last_seq": 3}))
    assert not judged(events().add("append", append("b", 0), {"last_seq": 2}, outcome=REFUSED))
    assert not judged(events().add("append", append("b", 1), {"last_seq": 1}, outcome=REFUSED))
    assert not judged(events().add("append", append("b", 3), outcome=UNKNOWN).add("read", {}, {"values": ["a", "b"]}))
    swapped = events().add("append", append("b", 1), {"first_seq": 2, "last_seq": 2})
    assert not judged(swapped.add("read", {}, {"values": ["b", "a"]}))


def duel() -> Script:
    return Script("duel-1").add("create", revision=5).add("claim", {"agent": "ann"}, {"attempt": 1})


def holds(agent: str, attempt: int, token: str = "") -> dict[str, Any]:
    return {"agent": agent, "attempt": attempt} | ({"token": token} if token else {})


def shows(status: str, attempt: int, agent: str = "", token: str = "") -> dict[str, Any]:
    return {"status": status, "attempt": attempt, "agent": agent, "token": token}


def test_duel() -> None:
    assert judged(duel().add("complete", holds("ann", 1, "x")).add("read", {}, shows("completed", 1, "ann", "x")))
    assert judged(duel().add("release", holds("ann", 1)).add("claim", {"agent": "bob"}, {"attempt": 2}))
    lease_lost = duel().add("read", {}, shows("running", 1, "ann")).add("read", {}, shows("pending", 1))
    assert judged(lease_lost.add("complete", holds("ann", 1, "x"), shows("pending", 1), outcome=REFUSED))
    taken = duel().add("claim", {"agent": "bob"}, {"attempt": 2})
    assert judged(taken.add("complete", holds("ann", 1, "x"), shows("running", 2, "bob"), outcome=REFUSED))
    unknown = duel().add("claim", {"agent": "bob"}, outcome=UNKNOWN)
    assert judged(unknown.add("claim", {"agent": "cid"}, {"attempt": 3}))
    assert judged(duel().add("claim", {"agent": "bob"}, outcome=UNKNOWN).add("complete", holds("ann", 1, "x")))


def test_duel_that_lies() -> None:
    taken = duel().add("claim", {"agent": "bob"}, {"attempt": 2})
    assert not judged(taken.add("complete", holds("ann", 1, "x")))
    assert not judged(duel().add("claim", {"agent": "bob"}, {"attempt": 1}))
    assert not judged(duel().add("claim", {"agent": "bob"}, {"attempt": 3}))
    assert not judged(duel().add("complete", holds("bob", 1, "x")))
    lost = duel().add("read", {}, shows("pending", 1))
    assert not judged(lost.add("complete", holds("ann", 1, "x")))
    done = duel().add("complete", holds("ann", 1, "x"))
    assert not judged(done.add("claim", {"agent": "bob"}, {"attempt": 2}))


def test_duel_whose_result_changes_or_goes() -> None:
    assert not judged(duel().add("complete", holds("ann", 1, "x")).add("read", {}, shows("running", 1, "ann")))
    assert not judged(duel().add("complete", holds("ann", 1, "x")).add("read", {}, shows("completed", 1, "ann", "y")))
    assert not judged(duel().add("read", {}, shows("completed", 1, "ann", "y")))
    taken = duel().add("claim", {"agent": "bob"}, {"attempt": 2})
    assert not judged(taken.add("read", {}, shows("running", 1, "ann")))


def test_what_is_no_key_is_not_judged() -> None:
    assert judged(Script("").add("submit").add("stale"))
