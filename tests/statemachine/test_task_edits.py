"""Changes by users: PATCH, cancel, retry."""

from __future__ import annotations

import pytest

from statemachine import commands, counters, machine, task_queries
from statemachine.commands import UpdateTask
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register()
    return h


def order(h: Harness) -> list[int]:
    return [pending.number for pending in task_queries.pending(h.store)]


def test_priority_and_queue_move_a_pending_task(h: Harness) -> None:
    h.submit("t1")
    h.submit("t2")
    h.item(UpdateTask("t2", ("priority",), priority=9))
    assert order(h) == [h.task("t2").number, h.task("t1").number]
    assert h.changes[0].data == {"fields": ["priority"]}
    h.item(UpdateTask("t2", ("queue",), queue="slow"))
    assert [pending.queue for pending in task_queries.pending(h.store)] == ["slow", "default"]
    assert counters.read(h.store, h.project_no())["queue.slow.pending"] == 1
    h.check()


def test_only_named_fields_change(h: Harness) -> None:
    h.submit("t1", priority=7, labels=b'{"a":"b"}', queue="q")
    h.item(UpdateTask("t1", ("labels",), labels=b'{"c":"d"}'))
    task = h.task("t1")
    assert (task.labels, task.priority, task.queue) == (b'{"c":"d"}', 7, "q")


def test_nothing_new_takes_no_revision(h: Harness) -> None:
    created = h.submit("t1", metadata=b"{}")
    item = h.item(UpdateTask("t1", ("priority", "metadata"), priority=5, metadata=b"{}"))
    assert (item.revision, machine.read_meta(h.store).revision) == (created.revision, created.revision)


def test_if_revision(h: Harness) -> None:
    revision = h.submit("t1").revision
    refusal = h.refusal(UpdateTask("t1", ("priority",), priority=1, if_revision=revision - 1))
    assert refusal.code == "conflict"
    assert refusal.current is not None
    assert refusal.current["revision"] == revision
    assert h.item(UpdateTask("t1", ("priority",), priority=1, if_revision=revision)).revision > revision


def test_not_before_moves_between_pending_and_scheduled(h: Harness) -> None:
    h.submit("t1")
    h.item(UpdateTask("t1", ("not_before",), not_before=h.time_ms + 1_000))
    assert (h.task("t1").status, h.task("t1").due_at) == ("scheduled", h.time_ms + 1_000)
    assert h.changes[0].type == "task.scheduled"
    h.item(UpdateTask("t1", ("not_before",), not_before=h.time_ms + 2_000))
    assert task_queries.next_due_ms(h.store) == h.time_ms + 2_000
    h.check()
    h.item(UpdateTask("t1", ("not_before",), not_before=None))
    assert (h.task("t1").status, h.task("t1").due_at) == ("pending", None)
    h.check()


def test_not_before_does_not_shorten_a_back_off(h: Harness) -> None:
    h.submit("t1")
    h.fail("t1", "a1", h.claim())
    due_at = h.task("t1").due_at
    assert due_at is not None
    h.item(UpdateTask("t1", ("not_before",), not_before=h.time_ms - 5))
    assert h.task("t1").due_at == due_at
    h.item(UpdateTask("t1", ("not_before",), not_before=due_at + 5))
    assert h.task("t1").due_at == due_at + 5
    h.check()


def test_deadline_can_be_moved_and_taken_away(h: Harness) -> None:
    h.submit("t1", deadline_in_ms=1_000)
    h.item(UpdateTask("t1", ("deadline",), deadline=h.time_ms + 2_000))
    assert [timer.at for timer in task_queries.timers(h.store)] == [h.time_ms + 2_000]
    h.item(UpdateTask("t1", ("deadline",), deadline=None))
    assert list(task_queries.timers(h.store)) == []
    h.check()


def test_after_the_end_only_labels_and_metadata(h: Harness) -> None:
    h.submit("t1")
    h.run()
    assert h.refusal(UpdateTask("t1", ("priority",), priority=1)).code == "conflict"
    assert h.item(UpdateTask("t1", ("labels", "metadata"), labels=b"{}", metadata=b"{}")).status == 200
    h.check()


def test_what_cannot_be_changed(h: Harness) -> None:
    h.submit("t1")
    assert h.refusal(UpdateTask("t1", ("status",))).code == "invalid_request"
    assert h.refusal(UpdateTask("t1", ("queue",), queue="x" * 129)).code == "invalid_request"
    assert h.refusal(UpdateTask("nope", ("priority",))).code == "not_found"


def test_cancel_is_repeatable_and_other_ends_are_conflicts(h: Harness) -> None:
    h.submit("t1")
    first = h.item(commands.CancelTask("t1"))
    content = h.content()
    assert h.item(commands.CancelTask("t1")) == first
    assert h.content() == content
    h.submit("t2")
    h.run("t2")
    refusal = h.refusal(commands.CancelTask("t2"))
    assert refusal.code == "conflict"
    assert refusal.current is not None
    assert refusal.current["status"] == "completed"
    assert h.refusal(commands.CancelTask("nope")).code == "not_found"


def test_retry_begins_anew_under_a_new_attempt(h: Harness) -> None:
    h.submit("t1", max_attempts=1)
    h.fail("t1", "a1", h.claim())
    h.item(commands.RetryTask("t1"))
    task = h.task("t1")
    assert (task.status, task.tries, task.attempt, task.failure, task.completed_at) == ("pending", 0, 1, None, None)
    assert h.complete("t1", "a1", 1).items[0].refusal is not None
    assert h.claim() == 2
    assert h.refusal(commands.RetryTask("t1")).code == "conflict"
    h.check()
