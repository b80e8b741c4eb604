"""Budgets in the leader's memory: nobody without budget is looked at again and again, and nobody with budget is kept
waiting."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from cluster.replica import Notice
from node.duties import runs
from node.duties.budget_gate import BudgetGate, Place
from node.duties.clock import settle
from node.duties.closed_sessions import ClosedSessions
from node.duties.fairness import Fairness
from node.duties.lanes import PendingTask, Scope
from node.duties.pending import PendingTasks
from node.duties.queue_gate import QueueGate
from node.duties.settings import DutySettings
from statemachine.budget_record import PROJECT, SESSION, Budget
from statemachine.commands import (
    CompleteTasks,
    Completion,
    DeleteBudget,
    PathLock,
    PutBudget,
    ResetBudget,
)
from tests.node.duties.fleet import FleetTest, fleet
from tests.node.duties.test_offers_under_way import slow_fleet
from tests.node.duties.test_pending import Model, add, everything, give, names


class Budgets:
    """A model with budgets: `room` tasks of each place may be given away; what is given away takes one."""

    def __init__(self, scan_tasks_max: int = 1_000) -> None:
        self.model = Model()
        self.rooms: dict[Place, int] = {}
        self.reads = 0
        self.gate = BudgetGate(self.read)
        self.pending = PendingTasks(
            self.model.scan,
            self.model.read_key,
            QueueGate(lambda _project, _queue: None),
            lane_tasks_max=100,
            scan_tasks_max=scan_tasks_max,
            ageing_ms=1_000,
            budgets=self.gate,
        )

    def read(self, place: Place) -> Budget | None:
        self.reads += 1
        if place not in self.rooms:
            return None
        scope, project, budget_id = place
        record = Budget(1, project, scope, budget_id, 0, 1, 0, 1, 0)
        return msgspec.structs.replace(record, max_tokens=self.rooms[place], reserve_tokens=1)

    def set(self, place: Place, room: int) -> None:
        self.rooms[place] = room
        self.gate.see(place, there=True)
        self.pending.sessions.reopen(place[1], place[2])

    def names(self) -> list[str]:
        self.gate.begin()
        return names(self.pending)

    def choose(self) -> list[PendingTask]:
        """What one pass puts on its way."""
        self.gate.begin()
        chosen: list[PendingTask] = []
        for task in self.pending.in_order(everything):
            self.pending.reserve(task, 1.0)
            chosen.append(task)
        return chosen

    def give(self, count: int = 99) -> list[str]:
        """What one pass gives away."""
        self.gate.begin()
        return give(self.model, self.pending, count)


def test_what_has_no_budget_holds_up_nobody_who_wants_the_same_files() -> None:
    b = Budgets()
    a_file, another = PathLock("a"), PathLock("b")
    b.set((SESSION, "p", "s"), 9)
    b.pending.locks.hold(("p", "t0"), 0, (a_file,))
    add(b.model, b.pending, 1, session="s", locks=(a_file, another))
    add(b.model, b.pending, 2, locks=(another,))
    assert b.names() == [], "the second waits for the first, which waits for a file"
    b.set((SESSION, "p", "s"), 0)
    b.pending.locks.let_go(("p", "t0"))
    assert b.names() == ["t2"]
    b.set((SESSION, "p", "s"), 9)
    assert b.give() == ["t1"]
    assert b.names() == []


def test_a_crowd_without_budget_hides_nobody_who_comes_first() -> None:
    b = Budgets()
    everything_there, one = PathLock("**"), PathLock("src/1.py")
    b.set((SESSION, "p", "s"), 9)
    b.pending.locks.hold(("p", "t0"), 0, (PathLock("src/0.py"),))
    add(b.model, b.pending, 1, locks=(everything_there,))
    for order in range(2, 22):
        add(b.model, b.pending, order, session="s", locks=(everything_there,))
    assert b.names() == []
    b.set((SESSION, "p", "s"), 0)
    add(b.model, b.pending, 22, session="s")
    add(b.model, b.pending, 23, locks=(one,))
    assert b.names() == [], "the first one, which waits for a file, has budget and comes before"


def test_a_session_without_budget_is_passed_over_until_it_has_some() -> None:
    b = Budgets()
    b.set((SESSION, "p", "s"), 0)
    for order in (1, 2):
        add(b.model, b.pending, order, session="s", priority=9)
    add(b.model, b.pending, 3)
    assert b.names() == ["t3"]
    add(b.model, b.pending, 4, "q1", session="s")
    assert b.names() == ["t3"], "also what comes later, and in another queue"
    b.set((SESSION, "p", "s"), 9)
    assert sorted(b.names()) == ["t1", "t2", "t3", "t4"]
    b.set((SESSION, "p", "s"), 0)
    b.gate.see((SESSION, "p", "s"), there=False)
    b.pending.sessions.reopen("p", "s")
    assert sorted(b.names()) == ["t1", "t2", "t3", "t4"], "no budget any more is no limit any more"


def test_no_more_are_chosen_than_there_is_room_for() -> None:
    b = Budgets()
    for order in range(5):
        add(b.model, b.pending, order, session="s")
    b.set((SESSION, "p", "s"), 2)
    first, second = b.choose()
    assert (first.key[1], second.key[1]) == ("t0", "t1")
    assert b.choose() == [], "what is on its way counts"
    b.pending.unreserve(first)
    assert b.choose() == [first], "refused: it can be had again"
    b.pending.drop(first.key)
    b.pending.drop(second.key)
    assert [task.key[1] for task in b.choose()] == ["t2", "t3"], "with agents it counts in the state"


def test_a_project_without_budget_hides_nobody() -> None:
    b = Budgets()
    b.set((PROJECT, "p", "p"), 0)
    for order in range(3):
        add(b.model, b.pending, order, priority=9)
    add(b.model, b.pending, 9, project="other")
    assert b.names() == ["t9"]
    b.rooms[PROJECT, "p", "p"] = 2
    assert sorted(b.give()) == ["t0", "t1", "t9"]


def test_ten_thousand_tasks_of_sessions_without_budget_cost_nothing() -> None:
    """Once they were looked at; whatever waits behind them is found at once."""
    b = Budgets(scan_tasks_max=100_000)
    for order in range(10_000):
        session = f"s{order % 1_000}"
        b.rooms[SESSION, "p", session] = 0
        b.gate.see((SESSION, "p", session), there=True)
        add(b.model, b.pending, order, session=session, priority=9)
    assert b.names() == []
    scanned, reads = b.model.scanned, b.reads
    for order in range(10_000, 10_020):
        add(b.model, b.pending, order)
        assert b.give() == [f"t{order}"]
    assert b.model.scanned - scanned <= 40
    assert b.reads == reads, "a session that is closed is not asked again"
    b.set((SESSION, "p", "s7"), 3)
    assert b.give() == ["t7", "t1007", "t2007"]
    assert b.reads - reads <= 4


def test_runs_of_a_closed_session_are_not_among_those_to_be_read() -> None:
    b, fairness = Budgets(), Fairness()
    known = runs.Runs(fairness)
    closed = ClosedSessions(b.gate, fairness, known, b.pending.keys, lambda _: None)
    scope = Scope(everything, None, None, 100)
    run = known.known(("p", "q", "s"))
    assert known.to_read(scope, ()) == [run]
    b.rooms[SESSION, "p", "s"] = 0
    b.gate.see((SESSION, "p", "s"), there=True)
    assert not closed.admits(run.flow)
    assert known.to_read(scope, ()) == []
    known.must_read(run)
    known.has_more(run)
    assert known.to_read(scope, ()) == []
    closed.reopen("p", "s")
    assert known.to_read(scope, ()) == [run]


def test_keyed_tasks_of_a_closed_session_are_found_again_after_a_long_time() -> None:
    b = Budgets()
    b.set((SESSION, "p", "s"), 0)
    add(b.model, b.pending, 1, session="s", key="k")
    assert [b.names(), b.names()] == [[], []]
    assert len(b.pending) == 0, "left in the state"
    b.pending.fairness.forget_idle()
    b.set((SESSION, "p", "s"), 1)
    assert b.names() == ["t1"]


def test_runs_of_queues_that_come_and_go_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of no session too: else a leader with a queue for each task would remember them all."""
    monkeypatch.setattr(runs, "DONE_KEPT_MAX", 10)
    b = Budgets()
    for order in range(200):
        add(b.model, b.pending, order, f"q{order}")
        assert b.give() == [f"t{order}"]
    assert b.names() == []
    assert b.pending.runs == 10
    for order, queue in ((500, "q0"), (501, "q199")):
        add(b.model, b.pending, order, queue)
        assert b.give() == [f"t{order}"], "what comes back is found"
    assert b.pending.runs == 10


def test_a_run_with_something_left_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "DONE_KEPT_MAX", 2)
    b = Budgets()
    for order in range(20):
        add(b.model, b.pending, order, f"q{order}", needs=1)
    assert len(b.names()) == 20
    for order in range(20, 40):
        add(b.model, b.pending, order, f"q{order}")
    assert len(b.give()) == 40
    assert b.pending.runs == 2


def test_a_run_that_is_given_a_task_back_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "DONE_KEPT_MAX", 2)
    b = Budgets()
    add(b.model, b.pending, 1, "q")
    found = b.model.tasks["p", "q", None, 5, 1]
    assert b.give() == ["t1"]
    b.model.tasks["p", "q", None, 5, 1] = found
    b.pending.put("p", "q", found)
    for order in range(20, 40):
        add(b.model, b.pending, order, f"q{order}")
        assert f"t{order}" in b.names()
        b.pending.drop(("p", f"t{order}"))
        del b.model.tasks["p", f"q{order}", None, 5, order]
    assert b.give() == ["t1"]
    assert b.names() == []
    assert b.pending.runs == 2


def test_a_run_of_no_session_knows_its_place_while_sessions_wait_in_its_queue() -> None:
    b = Budgets()
    for order in range(50):
        add(b.model, b.pending, order, session="s", needs=1)
    assert names(b.pending, lambda one: not one.requires) == []
    for order in range(50, 60):
        add(b.model, b.pending, order)
        scanned = b.model.scanned
        assert [t.key[1] for t in b.pending.in_order(lambda one: not one.requires)] == [f"t{order}"]
        assert b.model.scanned - scanned <= 2
        b.pending.drop(("p", f"t{order}"))
        del b.model.tasks["p", "q0", None, 5, order]


def test_fairness_outlives_a_run_that_was_forgotten() -> None:
    """Who had more than others is not forgiven for having been away."""
    b = Budgets()
    add(b.model, b.pending, 1)
    add(b.model, b.pending, 2, session="other")
    b.give()
    fairness = b.pending.fairness
    for name, took_s in (("t1", 50.0), ("t2", 1.0)):
        fairness.started(("p", name), "p", None if name == "t1" else "other", 0.0)
        b.pending.settle(("p", name), took_s)
    fairness.forget_idle()
    add(b.model, b.pending, 3, priority=9)
    add(b.model, b.pending, 4, session="other", priority=1)
    assert b.names() == ["t4", "t3"]


def budget(t: FleetTest, scope: str, budget_id: str, most: int | None, reserve: int = 1) -> None:
    t.do(PutBudget(scope, budget_id, most, None, reserve))


def test_a_refused_offer_does_not_make_the_leader_spin() -> None:
    """The budget shrinks while offers are on their way: one round is in vain, and then it is known."""

    async def scenario() -> None:
        async with slow_fleet(offers_per_batch=4) as (t, log):
            t.register("a1", slots=9)
            await t.poll("a1")
            budget(t, "session", "s", 4)
            t.submit(*(f"t{number}" for number in range(4)), session_id="s")
            await settle()
            assert [len(batch) for batch in log.pairs()] == [4]
            budget(t, "session", "s", 1)
            await log.decide_all()
            await t.clock.advance(60)
            await log.decide_all()
            assert [len(batch) for batch in log.pairs()] == [4]
            assert sum(t.status(f"t{number}") == "assigned" for number in range(4)) <= 1

    asyncio.run(scenario())


def test_an_agent_is_bid_anew_when_its_budget_has_room_again() -> None:
    async def scenario() -> None:
        async with fleet(DutySettings()) as t:
            t.register("a1", slots=9)
            budget(t, "agent", "a1", 2)
            await t.poll("a1")
            t.submit("t0")
            await settle()
            assert t.status("t0") == "assigned"
            t.accept("a1", "t0")
            await t.poll("a1")
            t.submit("t1")
            await settle()
            assert t.status("t1") == "assigned", "room for two"
            t.accept("a1", "t1")
            await t.poll("a1")
            t.submit("t2", "t3")
            await settle()
            assert t.status("t2") == "pending"
            t.verb(CompleteTasks("a1", (Completion("t0", 1, usage=(1, 0, 0)),)))
            await settle()
            assert t.status("t2") == "pending", "1 spent, 1 reserved"
            t.do(ResetBudget("agent", "a1"))
            await settle()
            assert (t.status("t2"), t.status("t3")) == ("assigned", "pending")
            t.do(DeleteBudget("agent", "a1"))
            t.accept("a1", "t2")
            await t.poll("a1")
            await settle()
            assert t.status("t3") == "assigned"

    asyncio.run(scenario())


@pytest.mark.parametrize(("scope", "name"), [("session", "s"), ("agent", "a1"), ("project", "default")])
def test_an_attempt_that_memory_never_saw_gives_its_room_back(scope: str, name: str) -> None:
    """Claimed and released before the leader heard of the first: what was full then is looked at again."""

    async def scenario() -> None:
        async with fleet(DutySettings()) as t:
            t.register("a1", slots=9)
            budget(t, scope, name, 5, reserve=5)
            t.submit("t1", "t2", session_id="s")
            memory = t.duties.leadership.memory  # type: ignore[union-attr]  # it leads
            held_back: list[Notice] = []
            follow = memory.follow
            memory.follow = held_back.append  # type: ignore[method-assign]  # notices are slow
            t.claim("a1", "t1")
            await t.poll("a1")
            await settle()
            assert t.status("t2") == "pending", "the state has no room"
            t.release("a1", "t1")
            memory.follow = follow  # type: ignore[method-assign]  # and come all at once
            for notice in held_back:
                t.duties.leadership.on_notice(notice)  # type: ignore[union-attr]  # it leads
            await settle()
            assert t.status("t2") == "assigned"

    asyncio.run(scenario())
