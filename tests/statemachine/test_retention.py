"""Retention: what has ended is removed, unless something that may still run needs it; everything is counted right."""

from __future__ import annotations

import pytest

from statemachine import (
    commands,
    former_tasks,
    groups,
    limits,
    machine,
    session_record,
    session_removal,
    task_queries,
    task_record,
    work,
)
from statemachine.commands import EndedSession, NewEvent, NewTask, RemoveEndedSessions, RemoveEndedTasks
from statemachine.entry import Fence
from statemachine.task_removal import look
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1")
    return h


def remove(h: Harness, *task_ids: str) -> list[int]:
    outcome = h.do(RemoveEndedTasks(tuple(h.believed(task_id) for task_id in task_ids)))
    h.check()
    return [item.status for item in outcome.items]


def exists(h: Harness, task_id: str) -> bool:
    return task_record.find(h.store, h.project_no(), task_id) is not None


def test_a_removed_task_leaves_nothing(h: Harness) -> None:
    empty = {key: value for key, value in h.content().items() if key[:1] not in b"nCqLtf"}
    large = b'"' + b"x" * 2_000 + b'"'
    h.submit(payload=large, unique_key="k", group_id="g", metadata=b"{}", deadline_in_ms=9_000)
    h.complete("t1", "a1", h.claim(), large)
    assert [ended.at for _, ended in task_queries.ended(h.store)] == [h.time_ms]
    assert machine.read_meta(h.store).tasks_ended == 1
    assert remove(h, "t1") == [200]
    (change,) = h.changes
    assert (change.type, change.resource_id, change.topics) == ("task.deleted", "t1", ("queue.default", "group.g"))
    left = {key: value for key, value in h.content().items() if key[:1] not in b"nCqLtf"}
    assert left == empty
    assert groups.get(h.store, h.project_no(), "g") is None
    assert machine.read_meta(h.store).tasks_ended == 0
    assert h.submit(payload=b"1").status == 201, "its id is free"
    h.check()


def test_a_removed_task_is_not_taken_for_the_next_one_of_its_name(h: Harness) -> None:
    h.submit()
    for _ in range(2):
        h.release("t1", "a1", old := h.claim())
    h.complete("t1", "a1", h.claim())
    believed = h.believed()
    assert remove(h, "t1") == [200]
    assert machine.read_meta(h.store).former_tasks == 1
    h.submit()
    assert machine.read_meta(h.store).former_tasks == 0
    assert h.task("t1").attempt == 3
    attempt = h.claim()
    assert attempt == 4
    for late in range(1, 4):
        (item,) = h.complete("t1", "a1", late, b'"late"').items
        assert item.refusal is not None
        assert item.refusal.code == "stale_attempt"
    refusal = h.refusal(commands.CreateSession("s"), fence=Fence("task", "t1", old))
    assert refusal.code == "stale_attempt"
    h.complete("t1", "a1", attempt)
    assert h.do(RemoveEndedTasks((believed,))).items[0].status == 0, "a leader that is late means the former one"
    h.check()


def test_what_nobody_was_granted_leaves_nothing_behind(h: Harness) -> None:
    h.submit()
    h.item(commands.CancelTask("t1"))
    assert remove(h, "t1") == [200]
    assert [key for key in h.content() if key[:1] in b"tf"] == []


def test_former_tasks_are_forgotten_by_time_and_by_number(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(task_id: str) -> None:
        h.submit(task_id)
        h.run(task_id)
        assert remove(h, task_id) == [200]

    def former() -> list[bytes]:
        return [id_key[5:-1] for _, id_key in former_tasks.scan(h.store)]

    for number in range(3):
        end(f"t{number}")
        h.advance(1)
    assert former() == [b"t0", b"t1", b"t2"]
    h.advance(limits.FORMER_ID_KEPT_MS - 3)
    end("t3")
    assert former() == [b"t1", b"t2", b"t3"]
    monkeypatch.setattr(limits, "FORMER_IDS_MAX", 2)
    end("t4")
    assert former() == [b"t3", b"t4"], "each removal forgets more than it adds"
    h.submit("t1")
    assert h.task("t1").attempt == 0
    h.check()


def test_a_submission_that_is_refused_leaves_the_former_task(h: Harness) -> None:
    h.submit()
    h.run()
    remove(h, "t1")
    new = (NewTask("t1"), NewTask("t2", depends_on=("none",)))
    assert h.refusal(commands.SubmitTasks(new, atomic=True)).code == "invalid_request"
    h.check()
    h.submit()
    assert h.task("t1").attempt == 1
    h.check()


def test_only_what_has_ended_and_is_as_it_was_believed_is_removed(h: Harness) -> None:
    h.submit()
    assert remove(h, "t1") == [0]
    believed = h.believed()
    attempt = h.claim()
    assert remove(h, "t1") == [0]
    h.item(commands.CancelTask("t1"))
    assert remove(h, "t1") == [0], "its agent has not confirmed"
    h.release("t1", "a1", attempt)
    h.do(RemoveEndedTasks((believed,)))
    assert exists(h, "t1")
    assert remove(h, "t1") == [200]
    h.do(RemoveEndedTasks((believed,)))
    h.check()


def test_a_redriven_task_is_not_removed(h: Harness) -> None:
    h.submit(max_attempts=1)
    h.fail("t1", "a1", h.claim())
    believed = h.believed()
    h.item(commands.RetryTask("t1"))
    assert h.do(RemoveEndedTasks((believed,))).items[0].status == 0
    h.check()


def test_who_may_still_run_keeps_what_it_depends_on(h: Harness) -> None:
    h.do(commands.SubmitTasks((NewTask("x"), NewTask("y", depends_on=("x",), max_attempts=1))))
    h.run("x")
    assert remove(h, "x") == [0], "y is pending"
    h.fail("y", "a1", h.claim("y"))
    assert remove(h, "x") == [0], "y may be redriven"
    h.item(commands.RetryTask("y"))
    h.run("y")
    assert remove(h, "x") == [200]
    task = h.task("y")
    assert task.depends_on == ("x",)
    assert list(task_queries.dependency_results(h.store, task)) == []
    h.submit("x")
    h.check()
    assert list(task_queries.dependency_results(h.store, task)) == [], "this is another x"
    assert remove(h, "y") == [200]


def test_a_blocked_task_keeps_what_failed_before_it(h: Harness) -> None:
    h.submit("x", max_attempts=1)
    h.submit("y", depends_on=("x",))
    h.fail("x", "a1", h.claim("x"))
    assert remove(h, "x") == [0]
    h.item(commands.CancelTask("y"))
    assert remove(h, "x", "y") == [200, 200]


def test_one_that_many_depended_on_stays_until_few_are_left(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 3)
    h.submit("x")
    h.run("x")
    for number in range(4):
        h.submit(f"y{number}", depends_on=("x",))
        h.run(f"y{number}")
    assert remove(h, "x") == [0]
    assert remove(h, "y0", "y1", "x") == [200, 200, 0], "a step is bounded"
    assert len(look(h.store, h.task("x")).freed or ()) == 2
    assert remove(h, "x") == [200]
    assert remove(h, "y2", "y3") == [200, 200], "what they depended on is gone already"


def test_a_group_counts_what_is_left(h: Harness) -> None:
    for number in range(3):
        h.submit(f"t{number}", group_id="g", max_attempts=1)
        h.fail(f"t{number}", "a1", h.claim(f"t{number}"))
    assert remove(h, "t1") == [200]
    group = groups.get(h.store, h.project_no(), "g")
    assert group is not None
    assert (group.counts, group.failed) == ({"failed": 2}, ["t0", "t2"])


def test_a_task_born_cancelled_is_counted(h: Harness) -> None:
    h.submit("x")
    h.item(commands.CancelTask("x"))
    h.submit("y", depends_on=("x",), on_dependency_failure="cancel")
    assert h.task("y").status == "cancelled"
    assert machine.read_meta(h.store).tasks_ended == 2
    assert remove(h, "y", "x") == [200, 200]


def session(h: Harness, session_id: str, status: str | None, events: int = 0) -> EndedSession:
    h.item(commands.CreateSession(session_id))
    if events:
        new = tuple(NewEvent(f"{session_id}-{number}", "custom.x") for number in range(events))
        h.item(commands.AppendEvents(session_id, new))
    if status is not None:
        h.item(commands.UpdateSession(session_id, ("status",), status=status))
    found = session_record.find(h.store, h.project_no(), session_id)
    assert found is not None
    return EndedSession(session_id, "default", found.revision)


def test_ended_sessions_are_removed_with_their_events(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 5)
    items = [session(h, "s1", "completed", 3), session(h, "s2", "completed", 9), session(h, "s3", "completed")]
    h.check()
    assert len(list(session_removal.ended(h.store, h.time_ms))) == 3
    assert list(session_removal.ended(h.store, h.time_ms - 1)) == []
    assert [item.status for item in h.do(RemoveEndedSessions(tuple(items))).items] == [200, 200, 0]
    assert [change.type for change in h.changes] == ["session.deleted"] * 2
    assert {change.project for change in h.changes} == {"default"}
    for _ in range(3):
        h.do(commands.DoWork())
    assert not work.waiting(h.store)
    assert [item.status for item in h.do(RemoveEndedSessions(tuple(items[2:]))).items] == [200]
    h.check()


def test_sessions_that_are_open_archived_or_were_changed_stay(h: Harness) -> None:
    changed = session(h, "s1", "completed")
    h.item(commands.UpdateSession("s1", ("title",), title="x"))
    items = (changed, session(h, "s2", None), session(h, "s3", "archived"), EndedSession("none", "default", 1))
    assert [item.status for item in h.do(RemoveEndedSessions(items)).items] == [0] * 4
    assert len(list(session_removal.ended(h.store, h.time_ms))) == 1
    h.item(commands.UpdateSession("s1", ("status",), status="active"))
    assert list(session_removal.ended(h.store, h.time_ms)) == []
    h.check()
