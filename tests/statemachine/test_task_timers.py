"""What time does, proposed by a leader whose belief may be out of date."""

from __future__ import annotations

import msgspec
import pytest

from statemachine import agent_record, commands, limits, machine, task_queries
from statemachine.commands import Backoff, Believed, Command, NewTask, SubmitTasks
from statemachine.task_queries import Timer
from statemachine.task_rows import TIMER_DEADLINE, TIMER_RUN, TIMER_UNSTARTED
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1", slots=4)
    return h


def propose(kind: type[Command], item: Believed) -> Command:
    if kind in (commands.ExpireLeases, commands.ExpireRuns):
        return kind((item,), (1 << 31,))
    return kind((item,))


KINDS = [commands.WithdrawOffers, commands.ExpireLeases, commands.ExpireRuns, commands.ExpireTasks]


def set_up(h: Harness, kind: type[Command]) -> None:
    """A task t1 to which this may be done now."""
    h.submit(run_timeout_ms=1_000, deadline_in_ms=1_000)
    if kind is commands.WithdrawOffers:
        h.offer()
    else:
        h.claim()
    h.advance(1_000)


@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_is_done(h: Harness, kind: type[Command]) -> None:
    set_up(h, kind)
    assert h.item(propose(kind, h.believed())).status == 200
    h.check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["task_id", "project", "attempt", "status"])
def test_what_no_longer_holds_is_passed_over(h: Harness, kind: type[Command], field: str) -> None:
    set_up(h, kind)
    other = {"task_id": "t9", "project": "nowhere", "attempt": 7, "status": "pending"}[field]
    content, revision = h.content(), machine.read_meta(h.store).revision
    wrong = msgspec.structs.replace(h.believed(), **{field: other})
    assert h.item(propose(kind, wrong)).status == 0
    assert (h.content(), machine.read_meta(h.store).revision) == (content, revision)


@pytest.mark.parametrize("kind", [commands.ExpireRuns, commands.ExpireTasks])
def test_too_early_by_the_entrys_time(h: Harness, kind: type[Command]) -> None:
    set_up(h, kind)
    h.time_ms -= 1
    assert h.item(propose(kind, h.believed())).status == 0


def test_a_withdrawn_offer_counts_no_try_and_avoids_the_agent(h: Harness) -> None:
    h.submit(max_attempts=1)
    h.offer()
    h.item(commands.WithdrawOffers((h.believed(),)))
    task = h.task("t1")
    assert (task.status, task.tries, task.attempt, task.avoid_agent_id) == ("pending", 0, 1, "a1")
    assert h.changes[0].type == "task.requeued"
    h.offer()
    assert h.task("t1").avoid_agent_id is None


def test_a_lost_lease_backs_off_and_then_fails(h: Harness) -> None:
    h.submit(max_attempts=2, backoff=Backoff(1_000, 20_000, 60_000, 0))
    h.claim()
    h.item(commands.ExpireLeases((h.believed(),), (0,)))
    task = h.task("t1")
    assert (task.status, task.due_at, task.avoid_agent_id) == ("scheduled", h.time_ms + 1_000, "a1")
    assert agent_record.load_of(h.store, h.agent("a1").number).failed == 1
    h.claim()
    h.item(commands.ExpireLeases((h.believed(),), (0,)))
    task = h.task("t1")
    assert task.failure is not None
    assert (task.status, task.failure.reason, task.failure.attempt) == ("failed", "lease_lost", 2)
    h.check()


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_the_end_of_the_lease_frees_a_stopped_task(h: Harness, end: str) -> None:
    h.submit(deadline_in_ms=1_000)
    h.claim()
    h.advance(1_000)
    if end == "cancelled":
        h.item(commands.CancelTask("t1"))
    else:
        h.item(commands.ExpireTasks((h.believed(),)))
    load = agent_record.load_of(h.store, h.agent("a1").number)
    assert (h.task("t1").status, load.held) == (end, 1)
    assert h.item(commands.ExpireLeases((h.believed(),), (0,))).status == 200
    load = agent_record.load_of(h.store, h.agent("a1").number)
    assert (h.task("t1").status, load.held, load.failed) == (end, 0, 0)
    assert h.item(commands.ExpireLeases((h.believed(),), (0,))).status == 0
    h.check()


def test_run_timeout(h: Harness) -> None:
    h.submit(run_timeout_ms=5_000, max_attempts=1)
    h.offer()
    assert list(task_queries.timers(h.store)) == []
    h.advance(1_000)
    h.accept("t1", "a1", 1)
    (timer,) = task_queries.timers(h.store)
    assert timer == Timer(h.time_ms + 5_000, TIMER_RUN, h.project_no(), h.task("t1").number)
    h.advance(4_999)
    assert list(task_queries.timers(h.store, h.time_ms)) == []
    assert h.item(commands.ExpireRuns((h.believed(),), (0,))).status == 0
    h.advance(1)
    assert list(task_queries.timers(h.store, h.time_ms)) == [timer]
    h.item(commands.ExpireRuns((h.believed(),), (0,)))
    failure = h.task("t1").failure
    assert failure is not None
    assert (h.task("t1").status, failure.reason) == ("failed", "timeout")
    assert list(task_queries.timers(h.store)) == []


def test_never_started(h: Harness) -> None:
    h.submit(expires_unstarted_ms=1_000, deadline_in_ms=9_000)
    h.offer()
    assert [timer.kind for timer in task_queries.timers(h.store)] == [TIMER_UNSTARTED, TIMER_DEADLINE]
    h.advance(1_000)
    h.item(commands.ExpireTasks((h.believed(),)))
    task = h.task("t1")
    assert task.failure is not None
    assert (task.status, task.failure.reason, task.holder_no) == ("expired", "never_started", 0)
    assert h.changes[0].type == "task.expired"
    h.check()


def test_a_started_task_does_not_expire_unstarted(h: Harness) -> None:
    h.submit(expires_unstarted_ms=1_000)
    h.release("t1", "a1", h.claim())
    h.advance(5_000)
    assert list(task_queries.timers(h.store)) == []
    assert h.item(commands.ExpireTasks((h.believed(),))).status == 0


def test_deadline_stops_a_running_task(h: Harness) -> None:
    h.submit(deadline_in_ms=1_000)
    attempt = h.claim()
    h.advance(1_000)
    h.item(commands.ExpireTasks((h.believed(),)))
    assert (h.task("t1").status, h.task("t1").failure) == ("expired", None)
    refusal = h.complete("t1", "a1", attempt).items[0].refusal
    assert refusal is not None
    assert refusal.current is not None
    assert (refusal.code, refusal.current["status"]) == ("stale_attempt", "expired")
    h.release("t1", "a1", attempt)
    assert h.task("t1").holder_no == 0
    h.check()


def test_wake_is_bounded_and_in_order_of_time(h: Harness) -> None:
    h.do(SubmitTasks(tuple(NewTask(f"t{i}", delay_ms=1_000 - i) for i in range(300))))
    h.advance(999)
    assert task_queries.next_due_ms(h.store) == h.time_ms - 298
    woken = h.do(commands.WakeTasks()).items
    assert len(woken) == limits.SIDE_EFFECTS_MAX
    assert woken[0].resource_id == "t299"
    assert len(h.do(commands.WakeTasks()).items) == 299 - len(woken)
    assert h.do(commands.WakeTasks()).items == ()
    h.advance(1)
    assert [item.resource_id for item in h.do(commands.WakeTasks()).items] == ["t0"]
    assert task_queries.next_due_ms(h.store) is None
    h.check()
