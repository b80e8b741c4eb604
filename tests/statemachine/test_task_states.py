"""Every verb in every state: what the table allows happens, what it does not changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from statemachine import commands, machine, task_store, work
from statemachine.commands import Checkpoint, DoWork, Held, Park, Resumption
from statemachine.context import Context
from statemachine.store import Overlay
from statemachine.task_states import TRANSITIONS, TaskState, Verb
from tests.statemachine.harness import START_MS, Harness

MINUTE = 60_000
DEADLINE = START_MS + 60 * MINUTE
S, V = TaskState, Verb


def build(state: TaskState, verb: Verb) -> Harness:
    """A harness whose task t1, held by a1 if by anyone, is in a state; a2 is idle; t1 depends on d."""
    h = Harness()
    h.register("a1")
    h.register("a2", slots=3)
    h.submit("d")
    if state is not S.BLOCKED:
        h.run("d", "a2")
    delayed = state is S.SCHEDULED and verb is V.RESCHEDULE
    h.submit(
        depends_on=("d",),
        deadline=DEADLINE,
        run_timeout_ms=30 * MINUTE,
        max_attempts=1 if state is S.FAILED else 3,
        not_before=START_MS + MINUTE if delayed else None,
    )
    steps: dict[TaskState, Callable[[], object]] = {
        S.ASSIGNED: h.offer,
        S.RUNNING: h.claim,
        S.COMPLETED: lambda: h.complete("t1", "a1", h.claim()),
        S.FAILED: lambda: h.fail("t1", "a1", h.claim()),
        S.SCHEDULED: lambda: None if delayed else h.fail("t1", "a1", h.claim()),
        S.CANCELLED: lambda: (h.claim(), h.item(commands.CancelTask("t1"))),
        S.EXPIRED: lambda: run_out(h),
        S.WAITING: lambda: park(h),
    }
    steps.get(state, lambda: None)()
    assert h.task("t1").status is state
    h.check()
    return h


def park(h: Harness) -> None:
    """Let a1 park the task, for half an hour at most."""
    park_again(h, h.claim())


def park_again(h: Harness, attempt: int) -> None:
    wait = Park("t1", attempt, "approval", "plan", timeout_ms=20 * MINUTE, on_timeout="fail")
    h.do(commands.ParkTasks("a1", (wait,)))


def end_wait(h: Harness) -> None:
    h.advance(21 * MINUTE)
    h.do(commands.EndWaits((h.believed(),)))


def run_out(h: Harness) -> None:
    """Hold the task until past its deadline."""
    h.claim()
    expire_late(h)


def expire(h: Harness) -> None:
    h.do(commands.ExpireTasks((h.believed(),)))


def unblock(h: Harness) -> None:
    """Complete the dependency; where that is done already, settle its dependents once more."""
    if h.task("d").status is S.COMPLETED:
        row = work.WorkRow("settle_dependents", {"project": h.project_no(), "task": h.task("d").number, "after": -1})
        h.store.apply([(b"w" + bytes(8), msgspec.msgpack.encode(row))])
        h.do(commands.DoWork())
    else:
        h.run("d", "a2")


def wake(h: Harness) -> None:
    h.advance(10 * MINUTE)
    h.do(commands.WakeTasks())


def reschedule(h: Harness) -> None:
    later = None if h.task("t1").not_before else h.time_ms + MINUTE
    h.do(commands.UpdateTask("t1", ("not_before",), not_before=later))


def expire_late(h: Harness) -> None:
    h.advance(2 * 60 * MINUTE)
    expire(h)


def time_out(h: Harness) -> None:
    h.advance(31 * MINUTE)
    h.do(commands.ExpireRuns((h.believed(),), (0,)))


def claim(h: Harness, *, named: bool) -> None:
    h.do(commands.ClaimTasks("a2", h.agent("a2").epoch, ("t1",), named=named))


def attempt(h: Harness) -> int:
    return h.task("t1").attempt


USE: dict[Verb, Callable[[Harness], object]] = {
    V.UNBLOCK: unblock,
    V.WAKE: wake,
    V.EXPIRE: expire_late,
    V.RESCHEDULE: reschedule,
    V.CANCEL: lambda h: h.do(commands.CancelTask("t1")),
    V.RETRY: lambda h: h.do(commands.RetryTask("t1")),
    V.OFFER: lambda h: h.offer("t1", "a2"),
    V.CLAIM: lambda h: claim(h, named=False),
    V.CLAIM_NAMED: lambda h: claim(h, named=True),
    V.ACCEPT: lambda h: h.do(commands.AcceptTasks("a1", (Held("t1", attempt(h)),))),
    V.CHECKPOINT: lambda h: h.do(commands.CheckpointTasks("a1", (Checkpoint("t1", attempt(h), 5_000, "half", b"{}"),))),
    V.COMPLETE: lambda h: h.complete("t1", "a1", attempt(h)),
    V.FAIL: lambda h: h.fail("t1", "a1", attempt(h)),
    V.RELEASE: lambda h: h.release("t1", "a1", attempt(h)),
    V.PARK: lambda h: park_again(h, attempt(h)),
    V.RESUME: lambda h: h.do(commands.ResumeTasks((Resumption("t1"),))),
    V.END_WAIT: end_wait,
    V.WITHDRAW: lambda h: h.do(commands.WithdrawOffers((h.believed(),))),
    V.LOSE: lambda h: h.do(commands.ExpireLeases((h.believed(),), (0,))),
    V.TIME_OUT: time_out,
    V.REQUEUE: lambda h: h.do(commands.DeleteAgent("a1")),
}

WITHOUT_TRACE = {(S.RUNNING, V.ACCEPT), (S.RUNNING, V.CHECKPOINT), (S.CANCELLED, V.CANCEL)}
"""Allowed, and answered with 200, but not a transition."""

RECORDED_ONLY = {(state, V.RESCHEDULE) for state in (S.BLOCKED, S.ASSIGNED, S.RUNNING, S.WAITING)}
"""`not_before` may be changed; it moves nothing now."""


def test_every_verb_can_be_tried() -> None:
    assert USE.keys() == set(Verb)
    assert TRANSITIONS.keys() == set(TaskState)


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("state", list(TaskState))
def test_table(state: TaskState, verb: Verb) -> None:
    h = build(state, verb)
    before = h.task("t1")
    USE[verb](h)
    after = h.task("t1")
    h.check()
    if (state, verb) in WITHOUT_TRACE:
        assert (after.status, after.history) == (before.status, before.history)
    elif verb in TRANSITIONS[state]:
        line = after.history[-1]
        assert len(after.history) == len(before.history) + 1
        assert (line.from_state, line.to_state) == (state, after.status)
        assert after.status in TRANSITIONS[state][verb]
        assert after.revision > before.revision
    elif (state, verb) in RECORDED_ONLY:
        assert (after.status, after.history) == (before.status, before.history)
    else:
        assert after == before


@pytest.mark.parametrize("state", list(TaskState))
def test_an_illegal_move_is_a_defect(state: TaskState) -> None:
    h = Harness()
    h.submit()
    task = h.task("t1")
    task.status = state
    for verb in Verb:
        for to in TaskState:
            if to not in TRANSITIONS[state].get(verb, ()):
                ctx = Context(Overlay(h.store), machine.read_meta(h.store), None, h.frame(DoWork()), h.time_ms)
                with pytest.raises(AssertionError, match="must not take a task"):
                    task_store.move(ctx, task_store.place(task), verb, to, 7)
                assert ctx.state.writes() == []
                assert task.status is state
