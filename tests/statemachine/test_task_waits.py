"""Parking and resuming: no slot and no try while a task waits, answers before and after their wait, time."""

from __future__ import annotations

import pytest

from statemachine import agent_record, commands, limits, task_queries, task_record, task_resumes
from statemachine.commands import Park, Release, Resumption
from statemachine.outcome import Item, Outcome
from statemachine.task_queries import TaskFilter
from statemachine.task_resumes import Resume
from tests.statemachine.harness import Harness

MINUTE = 60_000


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1")
    h.register("a2")
    h.submit()
    return h


def park(h: Harness, attempt: int, name: str = "plan", kind: str = "approval", **fields: object) -> Outcome:
    wait = Park("t1", attempt, kind, name, **fields)  # type: ignore[arg-type]  # a test's shorthand
    return h.do(commands.ParkTasks("a1", (wait,)))


def resume(
    h: Harness, name: str | None = "plan", data: bytes | None = b'"yes"', actor: str | None = "ann"
) -> tuple[Item, ...]:
    return h.do(commands.ResumeTasks((Resumption("t1", name, data, actor),))).items


def answers(h: Harness) -> list[tuple[str, bytes | None]]:
    task = task_record.find(h.store, h.project_no(), "t1")
    assert task is not None
    return [(answer.name, answer.data) for answer in task_resumes.answers(h.store, task)]


def load(h: Harness) -> int:
    return agent_record.load_of(h.store, h.agent("a1").number).held


def test_a_waiting_task_has_no_holder_and_costs_no_try(h: Harness) -> None:
    attempt = h.claim()
    (item,) = park(h, attempt, prompt="Go?", options=b'["yes","no"]', checkpoint=b"{}", usage=(1, 2, 3)).items
    task = h.task("t1")
    assert (item.status, task.status, task.tries, task.attempt, load(h)) == (200, "waiting", 0, 1, 0)
    assert task.wait is not None
    assert (task.wait.name, task.wait.prompt, task.wait.agent_id, task.checkpoint) == ("plan", "Go?", "a1", b"{}")
    assert task.usage == (1, 2, 3)
    assert [change.type for change in h.changes] == ["task.waiting"]
    assert "agent.a1" in h.changes[0].topics
    h.advance(24 * 3_600_000)
    assert h.do(commands.ExpireLeases((h.believed(),), (0,))).items[0].status == 0
    h.check()

    (item,) = resume(h)
    task = h.task("t1")
    assert (item.status, task.status, task.attempt) == (200, "pending", 1)
    assert [change.type for change in h.changes] == ["task.resumed"]
    assert task.wait is not None, "who parked it is preferred"
    assert (h.claim("t1", "a2"), h.task("t1").tries, h.task("t1").wait) == (2, 1, None)
    assert answers(h) == [("plan", b'"yes"')]
    assert h.task("t1").checkpoint == b"{}"
    h.check()


def test_parking_is_fenced_and_its_repeat_is_answered(h: Harness) -> None:
    attempt = h.claim()
    first = park(h, attempt)
    revision = first.items[0].revision
    assert park(h, attempt).items[0].revision == revision
    resume(h)
    assert park(h, attempt).items[0].revision == revision, "also when it goes on already"
    h.claim("t1", "a2")
    refusal = park(h, 2).items[0].refusal
    assert refusal is not None
    assert refusal.code == "stale_attempt"
    assert h.complete("t1", "a1", attempt).items[0].refusal is not None


def test_an_offer_may_be_parked_at_once(h: Harness) -> None:
    attempt = h.offer()
    park(h, attempt)
    task = h.task("t1")
    assert (task.status, task.tries) == ("waiting", 0)
    assert task.started_at is not None
    h.check()


def test_an_answer_before_its_wait_is_kept_for_it(h: Harness) -> None:
    (item,) = resume(h)
    assert (item.status, h.task("t1").status) == (200, "pending")
    assert answers(h) == []
    attempt = h.claim()
    park(h, attempt, "other")
    assert h.task("t1").status == "waiting"
    resume(h, "other", b"1")
    park(h, h.claim(), "plan")
    assert h.task("t1").status == "pending"
    assert answers(h) == [("other", b"1"), ("plan", b'"yes"')]
    h.check()


def test_an_early_answer_given_twice_is_one_and_different_ones_come_in_order(h: Harness) -> None:
    resume(h, data=b"1")
    revision = h.task("t1").revision
    assert resume(h, data=b"1")[0].revision == revision
    resume(h, data=b"2")
    park(h, h.claim(), kind="event")
    assert answers(h) == [("plan", b"1")]
    park(h, h.claim(), kind="event")
    assert answers(h) == [("plan", b"2")], "the same question asked anew forgets its older answer"
    park(h, h.claim(), kind="event")
    assert h.task("t1").status == "waiting"
    h.check()


def test_a_decision_stands(h: Harness) -> None:
    park(h, h.claim())
    resume(h, data=b'"yes"')
    revision = h.task("t1").revision
    assert resume(h, data=b'"yes"')[0].revision == revision, "a repeat"
    (refused,) = resume(h, data=b'"no"', actor="bob")
    assert refused.refusal is not None
    assert refused.refusal.code == "conflict"
    assert "ann" in refused.refusal.detail
    assert refused.refusal.current is not None
    assert refused.refusal.current["resume"]["actor"] == "ann"
    park(h, h.claim())
    assert h.task("t1").status == "waiting", "asked anew"
    assert resume(h, data=b'"no"', actor="bob")[0].status == 200
    assert answers(h) == [("plan", b'"no"')]


def test_an_event_may_come_again_while_the_first_is_worked_on(h: Harness) -> None:
    park(h, h.claim(), "push", "event")
    resume(h, "push", b"1")
    assert resume(h, "push", b"1")[0].status == 200
    park(h, h.claim(), "push", "event")
    assert (h.task("t1").status, answers(h)) == ("pending", [("push", b"1")])
    h.check()


def test_without_a_name_the_answer_is_for_what_is_waited_for(h: Harness) -> None:
    (refused,) = resume(h, None)
    assert refused.refusal is not None
    assert (refused.refusal.code, "waits for nothing" in refused.refusal.detail) == ("conflict", True)
    park(h, h.claim())
    assert resume(h, None)[0].status == 200
    assert answers(h) == [("plan", b'"yes"')]


def test_too_many_early_answers_are_refused_and_used_ones_make_room(h: Harness) -> None:
    for number in range(limits.RESUMES_KEPT_MAX):
        assert resume(h, f"n{number}")[0].status == 200
    (refused,) = resume(h, "one-more")
    assert refused.refusal is not None
    assert refused.refusal.code == "conflict"
    h.check()
    for number in range(limits.RESUMES_KEPT_MAX):
        park(h, h.claim(), f"n{number}")
    assert len(answers(h)) == limits.RESUMES_KEPT_MAX
    for number in range(3):
        park(h, h.claim(), f"m{number}")
        resume(h, f"m{number}", b'"' + b"x" * 2_000 + b'"')
    assert [name for name, _ in answers(h)][-4:] == ["n15", "m0", "m1", "m2"]
    assert len(answers(h)) == limits.RESUMES_KEPT_MAX
    large = [Resume("x", b"x" * limits.RESUME_DATA_BYTES_MAX, None, 0, "event")] * 5
    assert not task_resumes.fits(large)
    h.check()


@pytest.mark.parametrize(("then", "status"), [("resume", "pending"), ("fail", "failed"), ("cancel", "cancelled")])
def test_a_wait_ends_by_its_time(h: Harness, then: str, status: str) -> None:
    park(h, h.claim(), timeout_ms=MINUTE, on_timeout=then)
    assert [timer.at for timer in task_queries.timers(h.store)] == [h.time_ms + MINUTE]
    h.advance(MINUTE - 1)
    assert h.do(commands.EndWaits((h.believed(),))).items[0].status == 0
    h.advance(1)
    believed = h.believed()
    assert h.do(commands.EndWaits((believed,))).items[0].status == 200
    task = h.task("t1")
    assert task.status == status
    assert h.do(commands.EndWaits((believed,))).items[0].status == 0
    h.check()
    if then == "resume":
        found = task_record.find(h.store, h.project_no(), "t1")
        assert found is not None
        (answer,) = task_resumes.answers(h.store, found)
        assert (answer.timed_out, answer.data) == (True, None)
        (late,) = resume(h)
        assert late.refusal is not None
        assert "its timeout" in late.refusal.detail
    else:
        assert task.failure is not None
        assert (task.failure.reason, task.attempt) == ("timeout", 1)


def test_what_depends_on_a_task_follows_when_its_wait_fails(h: Harness) -> None:
    h.submit("t2", depends_on=("t1",), on_dependency_failure="cancel")
    park(h, h.claim(), timeout_ms=1, on_timeout="fail")
    h.advance(1)
    h.do(commands.EndWaits((h.believed(),)))
    assert h.task("t2").status == "cancelled"
    h.check()


def test_cancel_deadline_and_agents_that_go(h: Harness) -> None:
    park(h, h.claim(), timeout_ms=MINUTE)
    h.do(commands.DeleteAgent("a1"))
    assert h.task("t1").status == "waiting"
    h.item(commands.CancelTask("t1"))
    assert list(task_queries.timers(h.store)) == []
    assert resume(h)[0].refusal is not None
    h.register("a1")
    h.submit("t2", deadline_in_ms=MINUTE)
    attempt = h.claim("t2")
    h.do(commands.ParkTasks("a1", (Park("t2", attempt, "event", "x"),)))
    h.advance(MINUTE)
    h.do(commands.ExpireTasks((h.believed("t2"),)))
    assert h.task("t2").status == "expired"
    h.check()


def test_what_the_edge_should_have_refused_is_refused(h: Harness) -> None:
    attempt = h.claim()
    for wrong in ({"kind": "mood"}, {"on_timeout": "explode"}, {"kind": "time"}):
        refusal = park(h, attempt, **wrong).items[0].refusal
        assert refusal is not None
        assert refusal.code == "invalid_request"
    assert h.task("t1").status == "running"


def test_a_redrive_asks_anew_and_keeps_what_was_not_asked_yet(h: Harness) -> None:
    resume(h, "later", b"1")
    park(h, h.claim())
    resume(h)
    h.fail("t1", "a1", h.claim(), retryable=False)
    assert answers(h) == [("plan", b'"yes"')]
    h.item(commands.RetryTask("t1"))
    assert answers(h) == []
    park(h, h.claim(), "later")
    assert answers(h) == [("later", b"1")]
    h.check()


def test_waiting_tasks_are_found_by_what_they_wait_for(h: Harness) -> None:
    h.register("a1", slots=9)
    for name, kind in (("a", "approval"), ("b", "approval"), ("c", "event")):
        h.submit(name)
        h.do(commands.ParkTasks("a1", (Park(name, h.claim(name), kind, f"of-{name}"),)))

    def found(*wanted: str, status: tuple[str, ...] | None = None) -> list[str]:
        chosen = TaskFilter(waiting_for=wanted or None, status=status)
        rows = task_queries.list_tasks(h.store, h.project_no(), chosen)
        return [task.task_id for _, task in rows if task is not None]

    assert found("approval") == ["b", "a"]
    assert found("event", "of-a") == ["c", "a"]
    assert found("of-b", status=("waiting", "pending")) == ["b"]
    assert found("approval", status=("pending",)) == []
    assert found(status=("waiting",)) == ["c", "b", "a"]
    assert found(status=("waiting", "failed", "pending")) == ["c", "b", "a", "t1"]
    h.do(commands.ResumeTasks((Resumption("a"), Resumption("nobody"))))
    assert found("approval") == ["b"]


def test_a_note_is_handed_over_with_what_is_given_back(h: Harness) -> None:
    attempt = h.claim()
    h.do(commands.ReleaseTasks("a1", (Release("t1", attempt, b"{}", "tests are red"),)))
    offered = h.offer("t1", "a2")
    assert h.task("t1").progress_message == "tests are red"
    h.do(commands.WithdrawOffers((h.believed(),)))
    assert h.claim("t1", "a2") == offered + 1
    assert h.task("t1").progress_message == "tests are red", "the offer lapsed, the note is still to be read"
    h.fail("t1", "a2", offered + 1)
    h.advance(MINUTE)
    h.do(commands.WakeTasks())
    h.claim("t1", "a1")
    assert h.task("t1").progress_message is None
    h.check()
