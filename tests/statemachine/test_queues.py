"""Queues: settings, counts, and that no way to a grant leads around them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import limits, queue_limits, queues
from statemachine.commands import (
    AssignTask,
    CancelTask,
    ClaimTasks,
    NewTask,
    SubmitTasks,
    UpdateQueue,
    UpdateTask,
)
from statemachine.outcome import Item
from statemachine.queues import Queue
from statemachine.task_states import TaskState
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    harness = Harness()
    harness.register("a1", slots=20)
    return harness


def setting(h: Harness, queue: str = "default", **values: object) -> Item:
    """Set something of a queue."""
    fields = tuple(name for name in values if name != "if_revision")
    return h.item(msgspec.structs.replace(UpdateQueue(queue, fields), **values))


def record(h: Harness, queue: str = "default") -> Queue:
    found = queues.get(h.store, h.project_no(), queue)
    assert found is not None
    return found


def claims(h: Harness, *task_ids: str) -> list[str]:
    """Claim tasks as the leader chose them -> those that were granted."""
    outcome = h.do(ClaimTasks("a1", h.agent("a1").epoch, task_ids))
    assert outcome.refusal is None
    return [item.resource_id for item in outcome.items if item.status == 200]


def submit(h: Harness, *task_ids: str, **fields: object) -> None:
    for task_id in task_ids:
        h.submit(task_id, **fields)


def test_a_plain_new_task_costs_three_writes_and_no_record_of_its_queue(h: Harness) -> None:
    h.submit("t0")
    h.submit("t1")
    assert h.applied is not None
    tables = [key[:1] for key, _ in h.applied.writes]
    assert sorted(t for t in tables if t in {b"T", b"t", b"Q", b"q", b"k", b"c", b"r"}) == [b"Q", b"T", b"t"]
    assert queues.get(h.store, h.project_no(), "default") is None


def test_counts_follow_every_task(h: Harness) -> None:
    submit(h, "t1", "t2", "t3", queue="q")
    h.submit("later", queue="q", not_before=h.time_ms + 1_000)
    attempt = h.claim("t1")
    h.complete("t1", "a1", attempt)
    h.offer("t2")
    h.claim("t3")
    h.item(CancelTask("t3"))
    found = record(h, "q")
    assert {state.value: n for state in queues.COUNTED if (n := found.count(state))} == {
        "completed": 1,
        "assigned": 1,
        "cancelled": 1,
        "scheduled": 1,
    }
    assert found.held == 2, "a cancelled task keeps its slot until its agent confirms"
    h.release("t3", "a1", h.task("t3").attempt)
    assert record(h, "q").held == 1
    h.check()


def test_paused_grants_nothing_in_any_way(h: Harness) -> None:
    submit(h, "t1")
    setting(h, paused=True)
    assert h.offer() == 0
    assert claims(h, "t1") == []
    epoch = h.agent("a1").epoch
    for command in (ClaimTasks("a1", epoch, ("t1",), named=True), AssignTask("t1", "a1")):
        refusal = h.refusal(command)
        assert refusal.code == "conflict"
        assert refusal.current is not None
        assert refusal.current["why"] == "queue_paused"
    setting(h, paused=False)
    assert claims(h, "t1") == ["t1"]


def test_max_running_counts_what_this_very_command_grants(h: Harness) -> None:
    submit(h, "t1", "t2", "t3")
    setting(h, max_running=2)
    assert claims(h, "t1", "t2", "t3") == ["t1", "t2"]
    assert h.offer("t3") == 0
    refusal = h.refusal(ClaimTasks("a1", h.agent("a1").epoch, ("t3",), named=True))
    assert "2 tasks" in refusal.detail
    assert refusal.current is not None
    assert (refusal.current["why"], refusal.current["held"], refusal.current["max_running"]) == ("queue_limit", 2, 2)
    h.complete("t1", "a1", 1)
    assert h.offer("t3") == 1
    setting(h, max_running=None)
    submit(h, "t4")
    assert claims(h, "t4") == ["t4"]
    h.check()


def test_another_queue_and_another_project_have_limits_of_their_own(h: Harness) -> None:
    submit(h, "t1", "t2")
    setting(h, max_running=1)
    submit(h, "u1", "u2", queue="other")
    assert claims(h, "t1", "t2", "u1", "u2") == ["t1", "u1", "u2"]
    h.do(SubmitTasks((NewTask("t1"),)), project="p2")
    assert h.do(ClaimTasks("a1", h.agent("a1").epoch, ("t1",)), project="p2").items[0].status == 200
    h.check()


def test_a_task_moved_to_another_queue_is_counted_there(h: Harness) -> None:
    submit(h, "t1", "t2")
    h.claim("t1")
    h.item(UpdateTask("t1", ("queue",), queue="q2"))
    assert (record(h, "q2").held, record(h, "q2").count(TaskState.RUNNING)) == (1, 1)
    assert queues.get(h.store, h.project_no(), "default") is None
    h.check()


def test_rate_is_a_bucket_on_entry_time(h: Harness) -> None:
    ids = [f"t{n}" for n in range(12)]
    submit(h, *ids)
    setting(h, rate_milli=2_000)
    assert claims(h, *ids) == ids[:2], "a burst is what one second allows"
    h.advance(499)
    assert claims(h, *ids[2:]) == []
    refusal = h.refusal(ClaimTasks("a1", h.agent("a1").epoch, ("t2",), named=True))
    assert refusal.code == "rate_limited"
    assert "2 tasks per second; the next in 1 ms" in refusal.detail
    h.advance(1)
    assert claims(h, *ids[2:]) == ["t2"]
    h.advance(60_000)
    assert claims(h, *ids[3:]) == ["t3", "t4"], "what was not used is not saved up"


@given(st.integers(1, 20_000), st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 6)), max_size=25))
@settings(max_examples=60, deadline=None)
def test_no_window_has_more_grants_than_rate_and_burst(rate_milli: int, asks: list[tuple[int, int]]) -> None:
    h = Harness()
    h.register("a1", slots=1_000)
    setting(h, rate_milli=rate_milli)
    granted: list[int] = []
    number = 0
    for wait_ms, count in asks:
        h.advance(wait_ms)
        ids = [f"t{number + n}" for n in range(count)]
        number += count
        submit(h, *ids)
        tokens = record(h).tokens(h.time_ms)
        assert tokens is not None
        done = claims(h, *ids)
        assert len(done) == min(tokens, count), "what the leader counts is what apply grants"
        granted += [h.time_ms] * len(done)
    burst = max(1, rate_milli // 1000)
    for first, start in enumerate(granted):
        for last in range(first, len(granted)):
            assert (last - first + 1 - burst) * 1_000_000 <= rate_milli * (granted[last] - start)
    h.check()


def test_concurrency_key_holds_over_queues_and_until_the_agent_confirms(h: Harness) -> None:
    submit(h, "t1", "t2", concurrency_key="repo")
    h.submit("t3", concurrency_key="repo", queue="q2")
    h.submit("free", concurrency_key="other")
    assert claims(h, "t1", "t2", "t3", "free") == ["t1", "free"]
    refusal = h.refusal(ClaimTasks("a1", h.agent("a1").epoch, ("t2",), named=True))
    assert refusal.current is not None
    assert refusal.current["why"] == "concurrency_key"
    assert refusal.current["tasks"] == ["t1"]
    h.item(CancelTask("t1"))
    assert claims(h, "t2") == [], "the agent may still be at work"
    h.release("t1", "a1", 1)
    assert claims(h, "t2", "t3") == ["t2"]
    h.check()


def test_a_queue_may_let_more_run_with_one_key(h: Harness) -> None:
    submit(h, "t1", "t2", "t3", concurrency_key="repo")
    setting(h, max_running_per_key=2)
    assert claims(h, "t1", "t2", "t3") == ["t1", "t2"]
    h.fail("t1", "a1", 1, retryable=False)
    assert h.offer("t3") == 1
    h.check()


def test_pending_with_a_key_in_order_by_queue(h: Harness) -> None:
    submit(h, "t1", "t2", concurrency_key="repo")
    h.submit("urgent", concurrency_key="repo", priority=9)
    h.submit("else", concurrency_key="repo", queue="a")
    numbers = {h.task(name).number: name for name in ("t1", "t2", "urgent", "else")}
    found = queue_limits.pending_with_key(h.store, h.project_no(), "repo")
    assert [(queue, [numbers[n] for n in order]) for queue, order in found] == [
        ("a", ["else"]),
        ("default", ["urgent", "t1", "t2"]),
    ]


def test_sessions_with_pending_tasks_are_found_by_one_look_each(h: Harness) -> None:
    submit(h, *[f"t{n}" for n in range(20)], session_id="s1")
    h.submit("u", session_id="s2")
    h.submit("plain")
    found = queue_limits.pending_of_sessions(h.store, h.project_no(), "default")
    sessions = {h.task(f"t{n}").number: "s1" for n in range(20)} | {h.task("u").number: "s2"}
    assert sorted(sessions[number] for number in found) == ["s1", "s2"]
    h.check()


def test_settings_that_change_nothing_take_no_revision(h: Harness) -> None:
    first = setting(h, "q", paused=False)
    again = setting(h, "q", paused=False)
    assert again.revision == first.revision
    assert record(h, "q").configured
    other = setting(h, "q", max_running=3)
    assert other.revision > first.revision
    change = h.changes[0]
    assert (change.type, change.resource, change.resource_id) == ("queue.updated", "queue", "q")


def test_if_revision_and_bad_settings_are_refused(h: Harness) -> None:
    revision = setting(h, "q", paused=True).revision
    command = UpdateQueue("q", ("paused",), if_revision=revision - 1)
    assert h.refusal(command).code == "conflict"
    assert h.refusal(UpdateQueue("q", ("paused",), if_revision=0)).code == "conflict"
    assert setting(h, "q", paused=False, if_revision=revision).revision > revision
    assert setting(h, "new", paused=False, if_revision=0).revision > revision
    for bad in (
        UpdateQueue("q", ("max_running",), max_running=-1),
        UpdateQueue("q", ("rate_milli",), rate_milli=0),
        UpdateQueue("q", ("rate_milli",), rate_milli=limits.QUEUE_RATE_MILLI_MAX + 1),
        UpdateQueue("q", ("max_running_per_key",), max_running_per_key=0),
        UpdateQueue("q", ("colour",)),
        UpdateQueue("q\0", ("paused",)),
    ):
        assert h.refusal(bad).code == "invalid_request"


def test_oldest_pending_whatever_its_priority(h: Harness) -> None:
    h.submit("t1", priority=2)
    h.submit("t2", priority=9)
    assert queues.oldest_pending(h.store, h.project_no(), "default") == h.task("t1").number
    h.claim("t1")
    assert queues.oldest_pending(h.store, h.project_no(), "default") == h.task("t2").number
    assert queues.oldest_pending(h.store, h.project_no(), "none") is None
