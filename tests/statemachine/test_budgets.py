"""Budgets: what is reserved and charged, that no way to a grant leads around them, and that nothing fails for them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import budget_record, commands, limits, machine, queue_limits
from statemachine.budget_record import Budget, Unit
from statemachine.commands import (
    Capability,
    ClaimTasks,
    CompleteTasks,
    Completion,
    DeleteBudget,
    FailTasks,
    Failure,
    Park,
    ParkTasks,
    PutBudget,
    ResetBudget,
)
from statemachine.task_states import TaskState
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    harness = Harness()
    harness.register("a1", slots=9, capabilities=(Capability("python"),))
    return harness


def budget(h: Harness, scope: str = "project", budget_id: str = "default") -> Budget:
    found = budget_record.get(h.store, h.project_no(), scope, budget_id)
    assert found is not None
    return found


def claims(h: Harness, *ids: str, agent: str = "a1") -> list[str]:
    """Claim these -> those that were granted."""
    outcome = h.do(ClaimTasks(agent, h.agent(agent).epoch, ids))
    return [item.resource_id for item in outcome.items if item.status == 200]


def complete(h: Harness, task_id: str, usage: tuple[int, int, int] | None, attempt: int = 1) -> None:
    (item,) = h.do(CompleteTasks("a1", (Completion(task_id, attempt, usage=usage),))).items
    assert item.refusal is None, item.refusal


def kinds(h: Harness) -> list[str]:
    return [change.type for change in h.changes]


def test_reserved_at_the_grant_and_settled_by_what_was_used(h: Harness) -> None:
    h.item(PutBudget("project", "default", max_tokens=100, max_cost=5_000, reserve_tokens=40, reserve_cost=1_000))
    for name in ("t1", "t2", "t3"):
        h.submit(name)
    assert claims(h, "t1", "t2", "t3") == ["t1", "t2"], "a third would reserve 120 of 100"
    assert (budget(h).reserved_tokens, budget(h).reserved_cost, budget(h).tasks) == (80, 2_000, 2)
    complete(h, "t1", (10, 5, 700))
    assert (budget(h).tokens, budget(h).cost, budget(h).reserved_tokens, budget(h).tasks) == (15, 700, 40, 1)
    assert claims(h, "t3") == ["t3"], "15 spent, 40 reserved, 40 more"
    h.check()


def test_a_budget_that_is_used_up_says_so_once_and_nothing_fails(h: Harness) -> None:
    h.item(PutBudget("session", "s1", max_tokens=10))
    assert kinds(h) == ["budget.created"]
    for name in ("t1", "t2"):
        h.submit(name, session_id="s1")
    h.submit("free", session_id="s2")
    assert claims(h, "t1", "t2") == ["t1", "t2"], "with nothing to reserve only what is spent tells"
    complete(h, "t1", (6, 6, 0))
    assert kinds(h) == ["budget.exceeded", "task.completed"]
    exceeded = h.changes[0]
    assert (exceeded.resource, exceeded.resource_id, exceeded.topics) == ("budget", "session/s1", ("session.s1",))
    assert exceeded.data == {"scope": "session", "id": "s1", "max_tokens": 10, "spent_tokens": 12}
    h.fail("t2", "a1", 1)
    assert "budget.exceeded" not in kinds(h)
    h.advance(60_000)
    h.do(commands.WakeTasks(10))
    refusal = h.refusal(ClaimTasks("a1", h.agent("a1").epoch, ("t2",), named=True))
    assert refusal.code == "conflict"
    assert refusal.current is not None
    assert (refusal.current["why"], refusal.current["spent_tokens"], refusal.current["max_tokens"]) == (
        "budget",
        12,
        10,
    )
    assert "12 tokens spent, of 10 tokens; raise max_tokens or reset the budget" in refusal.detail
    assert h.refusal(commands.AssignTask("t2", "a1")).current == refusal.current
    assert h.offer("t2") == 0
    assert claims(h, "t2", "free") == ["free"]
    assert h.task("t2").status is TaskState.PENDING
    h.item(PutBudget("session", "s1", max_tokens=13))
    assert kinds(h) == ["budget.updated", "budget.restored"]
    assert claims(h, "t2") == ["t2"]
    h.check()


def end_complete(h: Harness) -> None:
    complete(h, "t1", None)


def end_fail(h: Harness) -> None:
    h.fail("t1", "a1", 1)


def end_release(h: Harness) -> None:
    h.release("t1", "a1", 1)


def end_lose(h: Harness) -> None:
    h.do(commands.ExpireLeases((h.believed(),), (0,)))


def end_requeue(h: Harness) -> None:
    h.do(commands.DeleteAgent("a1"))


def end_park(h: Harness) -> None:
    h.do(ParkTasks("a1", (Park("t1", 1, "approval", "plan"),)))


def end_confirmed(h: Harness) -> None:
    h.item(commands.CancelTask("t1"))
    assert budget(h).tasks == 1, "it may still be at work"
    h.release("t1", "a1", 1)


def end_withdraw(h: Harness) -> None:
    h.release("t1", "a1", 1)
    h.offer("t1")
    assert budget(h).tasks == 1
    h.do(commands.WithdrawOffers((h.believed(),)))


@pytest.mark.parametrize(
    "end",
    [end_complete, end_fail, end_release, end_lose, end_requeue, end_park, end_confirmed, end_withdraw],
)
def test_what_was_reserved_is_given_back_however_it_ends(h: Harness, end: object) -> None:
    h.item(PutBudget("project", "default", max_tokens=10, reserve_tokens=10))
    h.submit("t1")
    h.claim("t1")
    assert (budget(h).reserved_tokens, budget(h).tasks) == (10, 1)
    assert callable(end)
    end(h)
    assert (budget(h).reserved_tokens, budget(h).tasks, budget(h).tokens) == (0, 0, 0)
    assert h.task("t1").reserved == ()
    h.check()


def test_usage_of_every_report_is_charged_to_all_that_apply(h: Harness) -> None:
    for scope, budget_id in (("project", "default"), ("session", "s1"), ("agent", "a1"), ("session", "other")):
        h.item(PutBudget(scope, budget_id))
    h.submit("t1", session_id="s1", max_attempts=3)
    h.claim("t1")
    h.do(FailTasks("a1", (Failure("t1", 1, "error", "m", True, (1, 2, 3), 0),)))
    h.claim("t1")
    h.do(ParkTasks("a1", (Park("t1", 2, "event", "e", usage=(10, 20, 30)),)))
    h.do(commands.ResumeTasks((commands.Resumption("t1", "e", None),)))
    h.claim("t1")
    complete(h, "t1", (100, 200, 300), attempt=3)
    for scope, budget_id in (("project", "default"), ("session", "s1"), ("agent", "a1")):
        found = budget(h, scope, budget_id)
        assert (found.input_tokens, found.output_tokens, found.cost) == (111, 222, 333)
    assert budget(h, "session", "other").tokens == 0
    assert (budget(h).exceeded, budget(h).room) == (False, None), "no limit: it only counts"
    h.check()


def test_a_repeated_completion_is_charged_once(h: Harness) -> None:
    h.item(PutBudget("project", "default"))
    h.submit("t1")
    h.claim("t1")
    complete(h, "t1", (5, 0, 0))
    complete(h, "t1", (5, 0, 0))
    assert budget(h).tokens == 5


def test_a_completion_that_is_refused_charges_nothing(h: Harness) -> None:
    h.item(PutBudget("project", "default", max_tokens=5, reserve_tokens=2))
    h.submit("t1")
    h.claim("t1")
    bad = commands.NewTask("next", depends_on=("nowhere",))
    refused = h.do(CompleteTasks("a1", (Completion("t1", 1, usage=(5, 0, 0), tasks=(bad,)),))).items[0].refusal
    assert refused is not None
    assert (budget(h).tokens, budget(h).reserved_tokens) == (0, 2)
    h.check()


def test_an_agents_budget_counts_in_all_projects(h: Harness) -> None:
    h.item(PutBudget("agent", "a1", max_cost=1_000, reserve_cost=600))
    assert h.changes[0].project == ""
    h.item(commands.CreateProject(), project="other")
    h.submit("t1")
    h.claim("t1")
    new = commands.SubmitTasks((commands.NewTask("t2"),))
    h.item(new, project="other")
    refusal = h.refusal(ClaimTasks("a1", h.agent("a1").epoch, ("t2",), named=True), project="other")
    assert (refusal.code, refusal.current and refusal.current["why"]) == ("agent_unavailable", "budget")
    h.register("a2")
    assert h.item(ClaimTasks("a2", h.agent("a2").epoch, ("t2",), named=True), project="other").status == 200
    h.check()


def test_limits_of_two_units(h: Harness) -> None:
    h.item(PutBudget("project", "default", max_tokens=1_000, max_cost=2_500_000, reserve_cost=2_000_000))
    h.submit("t1")
    h.submit("t2")
    h.claim("t1")
    (hindrance,) = queue_limits.hindrances(h.store, h.task("t2"), h.time_ms)
    assert hindrance.message == (
        "the budget of project 'default' has no room: 0 USD spent, 2 USD reserved for tasks that agents hold (1), the "
        "next task would reserve 2 USD, of 2.5 USD; wait for a task to end, raise max_cost_usd or reset the budget"
    )
    assert hindrance.data["max_micro_usd"] == 2_500_000
    assert not budget(h).exceeded, "a task that ends makes room"
    complete(h, "t1", (0, 0, 1_000_000))
    assert budget(h).exceeded
    (hindrance,) = queue_limits.hindrances(h.store, h.task("t2"), h.time_ms)
    assert "wait for" not in hindrance.message
    assert "1 USD spent" in hindrance.message


def test_a_reset_begins_anew_and_keeps_what_is_reserved(h: Harness) -> None:
    h.item(PutBudget("project", "default", max_tokens=10, reserve_tokens=5))
    for name in ("t1", "t2"):
        h.submit(name)
    h.claim("t1")
    complete(h, "t1", (8, 0, 9))
    assert budget(h).exceeded
    assert claims(h, "t2") == []
    h.advance(1_000)
    item = h.item(ResetBudget("project", "default"))
    assert kinds(h) == ["budget.reset", "budget.restored"]
    assert (budget(h).tokens, budget(h).cost, budget(h).since, budget(h).revision) == (0, 0, h.time_ms, item.revision)
    h.claim("t2")
    h.item(ResetBudget("project", "default"))
    assert (budget(h).reserved_tokens, budget(h).tasks) == (5, 1)
    h.check()


def test_what_a_removed_budget_reserved_is_not_given_to_its_namesake(h: Harness) -> None:
    h.item(PutBudget("project", "default", max_tokens=10, reserve_tokens=5))
    h.submit("t1")
    h.claim("t1")
    h.item(DeleteBudget("project", "default"))
    assert machine.read_meta(h.store).budgets == 0
    h.check()
    h.item(PutBudget("project", "default", max_tokens=10, reserve_tokens=5))
    h.submit("t2")
    h.claim("t2")
    h.check()
    complete(h, "t1", (1, 0, 0))
    assert (budget(h).reserved_tokens, budget(h).tokens) == (5, 1), "usage counts where it is reported"
    h.item(DeleteBudget("project", "default"))
    complete(h, "t2", (1, 0, 0))
    assert h.task("t2").reserved == ()
    h.check()


def test_a_budget_made_while_tasks_run_reserves_nothing_for_them(h: Harness) -> None:
    h.submit("t1")
    h.claim("t1")
    h.item(PutBudget("project", "default", max_tokens=10, reserve_tokens=10))
    assert budget(h).tasks == 0
    complete(h, "t1", (3, 0, 0))
    assert budget(h).tokens == 3
    h.check()


def test_putting_the_same_takes_no_revision_and_conditions_are_kept(h: Harness) -> None:
    command = PutBudget("agent", "a9", max_tokens=5, if_revision=0)
    first = h.item(command)
    assert (first.status, first.resource_id) == (201, "agent/a9")
    assert h.item(command).revision == first.revision, "a repeat is no conflict"
    other = msgspec.structs.replace(command, max_tokens=6)
    assert h.refusal(other).code == "conflict"
    assert h.item(msgspec.structs.replace(other, if_revision=first.revision)).revision > first.revision
    data = h.changes[0].data
    assert data is not None
    assert data["fields"] == ["max_tokens"]


@pytest.mark.parametrize(
    "bad",
    [
        PutBudget("queue", "q"),
        PutBudget("session", ""),
        PutBudget("session", "x\0"),
        PutBudget("session", "s", max_tokens=-1),
        PutBudget("session", "s", max_cost=limits.BUDGET_MAX + 1),
        PutBudget("session", "s", reserve_tokens=-1),
        PutBudget("session", "s", max_tokens=1, reserve_tokens=2),
        PutBudget("project", "other"),
        ResetBudget("queue", "q"),
        DeleteBudget("project", "other"),
    ],
)
def test_what_is_no_budget_is_refused(h: Harness, bad: commands.Command) -> None:
    assert h.refusal(bad).code == "invalid_request"


def test_what_is_not_there_and_what_is_too_much(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert h.refusal(ResetBudget("session", "s")).code == "not_found"
    assert h.refusal(DeleteBudget("session", "s")).code == "not_found"
    monkeypatch.setattr(limits, "BUDGETS_MAX", 1)
    h.item(PutBudget("session", "s"))
    assert h.refusal(PutBudget("session", "t")).code == "queue_full"
    h.item(DeleteBudget("session", "s"))
    h.item(PutBudget("session", "t"))
    h.check()


def test_what_is_set_aside_without_a_limit_stops_where_numbers_end(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that no longer fits would stop every grant as a defect."""
    monkeypatch.setattr(limits, "BUDGET_SUM_MAX", 25)
    h.item(PutBudget("project", "default", reserve_tokens=10))
    for name in ("t1", "t2", "t3"):
        h.submit(name)
    assert claims(h, "t1", "t2", "t3") == ["t1", "t2"]
    assert budget(h).reserved_tokens == 20
    complete(h, "t1", None)
    assert claims(h, "t3") == ["t3"]
    h.check()


def test_sums_stop_where_numbers_end(h: Harness) -> None:
    h.item(PutBudget("project", "default"))
    record = budget(h)
    h.store.apply([(budget_record.key(record.project_no, "project", "default"), _encoded(record))])
    h.submit("t1")
    h.claim("t1")
    complete(h, "t1", (limits.USAGE_MAX, 5, 0))
    assert budget(h).input_tokens == limits.BUDGET_SUM_MAX
    h.check()


def _encoded(record: Budget) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(record, input_tokens=limits.BUDGET_SUM_MAX - 1))


@given(
    st.integers(0, 30),
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_who_uses_no_more_than_was_reserved_never_exceeds(
    most: int, reserve: int, tasks: list[tuple[int, bool]]
) -> None:
    """Otherwise by no more than what attempts used beyond it."""
    h = Harness()
    h.register("a1", slots=99)
    h.item(PutBudget("project", "default", max_tokens=most, reserve_tokens=min(reserve, most)))
    reserve, beyond = min(reserve, most), 0
    held: list[tuple[str, int]] = []
    for number, (uses, ends) in enumerate(tasks):
        name = f"t{number}"
        h.submit(name)
        if claims(h, name):
            held.append((name, uses))
        if ends and held:
            name, used = held.pop(0)
            beyond += max(0, used - reserve)
            complete(h, name, (used, 0, 0))
        record = budget(h)
        assert record.tokens <= most + beyond
        assert record.exceeded == (record.tokens + max(reserve, 1) > most)
    h.check()


@given(st.none() | st.integers(0, 20), st.integers(0, 30), st.integers(0, 30), st.integers(0, 10))
def test_room_is_how_many_grants_are_allowed(most: int | None, spent: int, reserved: int, reserve: int) -> None:
    unit = Unit("tokens", most, spent, reserved, reserve)
    if most is None:
        assert (unit.room, unit.exceeded) == (None, False)
        return
    if reserve == 0:
        assert (unit.room == 0) == (spent + reserved >= most)
        return
    assert unit.room is not None
    granted = 0
    while spent + reserved + (granted + 1) * reserve <= most:
        granted += 1
    assert unit.room == granted
    assert unit.exceeded == (spent + reserve > most)
