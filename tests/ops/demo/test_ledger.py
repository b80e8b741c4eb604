"""The check that the demonstration rests on must see every kind of loss and doubling."""

from __future__ import annotations

from typing import Any

import pytest
from hive_client import Task
from hive_client.models import ChangeMessage

from ops.demo.ledger import Ledger


def message(revision: int, task_id: str, kind: str = "task.completed") -> ChangeMessage:
    change = {"type": kind, "resource": "task", "resource_id": task_id}
    return ChangeMessage.from_json({"revision": revision, "changes": [change]})


def task(task_id: str, status: str = "completed", attempt: int = 1) -> Task:
    return Task.from_json({"task_id": task_id, "status": status, "attempt": attempt})


def good_ledger() -> Ledger:
    ledger = Ledger(submitted={"a", "b"})
    for revision, task_id in ((5, "a"), (7, "b")):
        ledger.take_message(message(revision, task_id))
        ledger.take_recorded(task_id)
    ledger.take_tasks([task("a"), task("b", attempt=3)])
    return ledger


def test_a_good_run() -> None:
    verdict = good_ledger().verdict()
    assert verdict.good
    assert (verdict.submitted, verdict.completed, verdict.attempts_over_one) == (2, 2, 2)


def lose(ledger: Ledger) -> None:
    ledger.take_tasks([task("a", "running")])


def complete_again(ledger: Ledger) -> None:
    ledger.take_message(message(9, "a"))


def record_again(ledger: Ledger) -> None:
    ledger.take_recorded("a")


def no_event(ledger: Ledger) -> None:
    del ledger.by_session["a"]


def no_change(ledger: Ledger) -> None:
    del ledger.by_feed["a"]


@pytest.mark.parametrize(
    ("harm", "field"),
    [
        (lose, "lost"),
        (complete_again, "doubled"),
        (record_again, "doubled"),
        (no_event, "unconfirmed"),
        (no_change, "unconfirmed"),
    ],
)
def test_every_harm_is_seen(harm: Any, field: str) -> None:
    ledger = good_ledger()
    harm(ledger)
    verdict = ledger.verdict()
    assert not verdict.good
    assert list(getattr(verdict, field)) == ["a"]


def test_a_task_that_is_not_there_is_lost() -> None:
    assert Ledger(submitted={"a"}).verdict().lost == ("a",)


def test_other_tasks_and_other_changes_do_not_count() -> None:
    ledger = good_ledger()
    ledger.take_message(message(10, "foreign"))
    ledger.take_message(message(11, "a", "task.started"))
    ledger.take_tasks([task("foreign", "failed")])
    assert ledger.verdict().good
    assert ledger.verdict().submitted == 2


def test_a_feed_that_repeats_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        good_ledger().take_message(message(7, "b"))
