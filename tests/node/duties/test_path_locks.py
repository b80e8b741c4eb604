"""Pending tasks with locks in memory: who is parked behind whom, and that nobody waits who need not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.duties import path_locks, pending
from node.duties.lanes import Found, PendingTask, Signature
from node.duties.pending import PendingTasks
from statemachine import globs
from statemachine.commands import PathLock
from statemachine.queues import Queue
from tests.node.duties.test_pending import NEEDS, Model, Slot, add, everything, give, grant, make, names


def lock(*paths: str, exclusive: bool = True) -> tuple[PathLock, ...]:
    return tuple(PathLock(path, exclusive) for path in paths)


def end(pending: PendingTasks, task_id: str) -> None:
    """The task lets go of everything."""
    pending.keys.let_go(("p", task_id))
    pending.locks.let_go(("p", task_id))
    pending.settle(("p", task_id), 0.0)


def test_what_overlaps_waits_and_nothing_else_does() -> None:
    model, pending = make()
    add(model, pending, 1, locks=lock("src/**"))
    add(model, pending, 2, locks=lock("src/a.py"))
    add(model, pending, 3, locks=lock("docs/a.md"))
    add(model, pending, 4)
    assert give(model, pending, 9) == ["t1", "t3", "t4"]
    assert names(pending) == []
    end(pending, "t1")
    assert give(model, pending, 9) == ["t2"]


def test_readers_go_together() -> None:
    model, pending = make()
    add(model, pending, 1, locks=lock("src/**", exclusive=False))
    add(model, pending, 2, locks=lock("src/a.py", exclusive=False))
    add(model, pending, 3, locks=lock("src/a.py"))
    add(model, pending, 4, locks=lock("src/a.py", exclusive=False))
    assert give(model, pending, 9) == ["t1", "t2"], "a reader does not pass a writer that waits"
    end(pending, "t1")
    assert names(pending) == []
    end(pending, "t2")
    assert give(model, pending, 9) == ["t3"]
    end(pending, "t3")
    assert give(model, pending, 9) == ["t4"]


def test_a_lock_on_everything_is_not_starved() -> None:
    model, pending = make()
    add(model, pending, 1, locks=lock("src/1.py"))
    add(model, pending, 2, locks=lock("src/2.py"))
    assert give(model, pending, 9) == ["t1", "t2"]
    add(model, pending, 3, locks=lock("**"))
    for order in range(4, 10):
        add(model, pending, order, locks=lock(f"src/{order}.py"))
    assert names(pending) == []
    end(pending, "t1")
    assert names(pending) == []
    add(model, pending, 10, priority=9, locks=lock("src/10.py"))
    assert give(model, pending, 9) == ["t10"], "the more urgent one comes before it"
    end(pending, "t2")
    end(pending, "t10")
    assert give(model, pending, 9) == ["t3"]
    end(pending, "t3")
    assert give(model, pending, 9) == [f"t{order}" for order in range(4, 10)]


def test_what_nobody_can_do_holds_up_nobody() -> None:
    model, pending = make()

    def able(signature: Signature) -> bool:
        return signature.requires == ()

    add(model, pending, 1, locks=lock("a"))
    assert give(model, pending) == ["t1"]
    add(model, pending, 2, needs=1, locks=lock("a", "b"))
    add(model, pending, 3, needs=1, locks=lock("b", "c"))
    add(model, pending, 4, locks=lock("c"))
    assert names(pending) == []
    assert names(pending, able) == []
    end(pending, "t1")
    assert names(pending, able) == ["t4"], "the two before it want somebody else"
    assert give(model, pending, 9) == ["t2"], "who can do them all keeps the order"
    end(pending, "t2")
    assert give(model, pending, 9) == ["t3"]


def test_a_closed_queue_holds_up_no_other() -> None:
    model, pending = make()
    add(model, pending, 1, locks=lock("a"))
    assert give(model, pending) == ["t1"]
    add(model, pending, 2, locks=lock("a", "b"))
    add(model, pending, 3, "q1", locks=lock("b"))
    assert names(pending) == []
    model.queues["p", "q0"] = Queue(1, "q0", 1, 1, 1, paused=True)
    pending.gate.see("p", model.queues["p", "q0"])
    pending.locks.stir("p", "q0")
    pending.gate.begin(0)
    assert names(pending) == ["t3"]


def test_a_file_that_thousands_want_costs_one_look_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pending = make(scan_tasks_max=100_000)
    looks: list[str] = []
    blocker = path_locks.PathLocks.blocker

    def counted(
        self: path_locks.PathLocks, task: PendingTask, may_go: Callable[[PendingTask], bool]
    ) -> tuple[str, str] | None:
        looks.append(task.key[1])
        return blocker(self, task, may_go)

    monkeypatch.setattr(path_locks.PathLocks, "blocker", counted)
    for order in range(1, 1_001):
        add(model, pending, order, locks=lock("hot"))
    assert give(model, pending) == ["t1"]
    while names(pending) or pending.unfinished:
        pass
    assert len(pending.locks) == 999
    looks.clear()
    scans = model.scans
    for order in range(1, 100):
        end(pending, f"t{order}")
        assert give(model, pending, 2) == [f"t{order + 1}"]
    assert len(looks) == 99
    assert model.scans == scans


def test_beyond_a_bound_they_stay_in_the_state_behind_the_first() -> None:
    model, pending = make()
    pending.locks = path_locks.PathLocks(parked_max=2)
    for order in range(1, 7):
        add(model, pending, order, locks=lock("hot"))
    add(model, pending, 7, locks=lock("cold"))
    add(model, pending, 8)
    assert give(model, pending, 9) == ["t1", "t8"]
    assert names(pending) == []
    for order in range(2, 7):
        end(pending, f"t{order - 1}")
        assert f"t{order}" in give(model, pending, 9)
    assert not model.tasks


def test_one_pass_looks_at_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "LOOKED_AT_PARKED_MAX", 2)
    model, tasks = make()
    for order in range(1, 6):
        add(model, tasks, order, locks=lock("hot"))
    add(model, tasks, 6)
    tasks.locks.hold(("p", "t0"), 0, lock("hot"))
    assert names(tasks) == []
    assert tasks.unfinished
    assert names(tasks) == []
    assert names(tasks) == ["t6"]
    assert not tasks.unfinished


def test_one_pass_compares_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "LOCK_STEPS_MAX", 10)
    model, tasks = make()
    for holder in range(20):
        tasks.locks.hold(("p", f"h{holder}"), 1_000 + holder, lock(f"*.{holder}"))
    for order in range(1, 6):
        add(model, tasks, order, locks=lock(f"?.{order}"))
        add(model, tasks, 10 + order, locks=lock(f"?.x{order}"))
    passes = 0
    while not passes or tasks.unfinished:
        passes += 1
        seen = give(model, tasks, 9)
        assert len(seen) <= 1, "each compares itself with all that is held"
    assert 5 <= passes <= 10
    assert len(tasks.locks) == 5
    tasks.locks.hold(("p", "h20"), 1_020, lock("?.y"))
    add(model, tasks, 20, locks=lock("?.z"))
    add(model, tasks, 21, locks=lock("?.zz"))
    assert names(tasks) == ["t20", "t21"], "nobody takes them, so the pass goes on"
    assert not tasks.unfinished


def test_a_full_line_before_many_sessions_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "LOOKED_AT_PARKED_MAX", 2)
    model, tasks = make()
    tasks.locks = path_locks.PathLocks(parked_max=1)
    tasks.locks.hold(("p", "t0"), 0, lock("hot"))
    for order in range(1, 7):
        add(model, tasks, order, session=f"s{order}", locks=lock("hot"))
    add(model, tasks, 7, session="s7")
    seen = [names(tasks)]
    while tasks.unfinished:
        assert len(seen) < 9, "it looks at the same ones for ever"
        seen.append(names(tasks))
    assert seen[-1] == ["t7"]
    end(tasks, "t0")
    assert set(give(model, tasks, 2)) >= {"t7"}
    for _ in range(6):
        for task_id in [f"t{order}" for order in range(1, 7)]:
            end(tasks, task_id)
        give(model, tasks, 2)
    assert not model.tasks


def test_a_reservation_that_lapses_gives_the_locks_back() -> None:
    model, pending = make()
    add(model, pending, 1, locks=lock("a"))
    add(model, pending, 2, locks=lock("a"))
    first = next(iter(pending.in_order(everything)))
    pending.reserve(first, 1.0)
    assert names(pending) == []
    assert pending.lapse(1.0) == 1
    assert names(pending)[0] == "t1"
    pending.reserve(first, 1.0)
    assert names(pending) == []
    grant(model, pending, first)
    assert names(pending) == []


def test_a_task_that_kept_its_locks_has_nobody_in_its_way() -> None:
    model, pending = make()
    add(model, pending, 1, locks=lock("a"))
    add(model, pending, 2, locks=lock("a"))
    pending.locks.hold(("p", "t1"), 1, lock("a"))
    assert names(pending) == ["t1"]
    assert pending.locks.behind(("p", "t2")) is None
    add(model, pending, 3, locks=lock("a"))
    assert names(pending) == ["t1"]
    assert pending.locks.behind(("p", "t3")) == ("p", "t2")


def test_a_parked_task_that_goes_lets_others_through() -> None:
    model, pending = make()
    add(model, pending, 1, locks=lock("a"))
    assert give(model, pending) == ["t1"]
    add(model, pending, 2, locks=lock("a", "b"))
    add(model, pending, 3, locks=lock("b"))
    assert names(pending) == []
    assert pending.drop(("p", "t2")) is not None
    assert names(pending) == ["t3"]
    pending.clear()
    assert len(pending.locks) == 0


def test_keys_and_locks_together() -> None:
    """A task of a key whose locks are held does not hide another of its key."""
    model, pending = make()
    pending.locks.hold(("p", "t0"), 0, lock("a"))
    add(model, pending, 1, key="k", locks=lock("a"))
    add(model, pending, 2, key="k", locks=lock("b"))
    add(model, pending, 3, key="k")
    assert give(model, pending, 1) == ["t2"]
    assert names(pending) == []
    pending.locks.let_go(("p", "t0"))
    assert names(pending) == [], "the key is taken"
    end(pending, "t2")
    assert names(pending) == ["t1", "t3"]


PATTERNS = ("a", "b", "a/b", "a/*", "a/**", "**", "*/b")


@dataclass(frozen=True)
class Add:
    """A new task."""

    needs: int
    priority: int
    session: str | None
    key: str | None
    locks: tuple[PathLock, ...]


@dataclass(frozen=True)
class End:
    """One that is held lets go, or comes back."""

    which: int
    requeued: bool


@dataclass(frozen=True)
class Take:
    """An agent that can do one thing asks for so many."""

    needs: int
    count: int


lock_sets = st.lists(st.builds(PathLock, st.sampled_from(PATTERNS), st.booleans()), max_size=2).map(tuple)
sessions, keys = st.sampled_from([None, None, "s"]), st.sampled_from([None, None, "k"])
steps = st.one_of(
    st.builds(Add, st.integers(0, 1), st.integers(3, 5), sessions, keys, lock_sets),
    st.builds(End, st.integers(0, 50), st.booleans()),
    st.builds(Take, st.integers(0, 1), st.integers(1, 3)),
)


def goes_with(one: tuple[PathLock, ...], other: tuple[PathLock, ...]) -> bool:
    return not any(
        (a.exclusive or b.exclusive) and globs.overlap(globs.parse(a.path), globs.parse(b.path))
        for a in one
        for b in other
    )


def take(model: Model, pending: PendingTasks, held: dict[str, tuple[Slot, Found]], wanted: Take) -> int:
    """Take what an agent may have; nothing that does not go with what is held; of those that overlap the first."""
    taken, needs = 0, NEEDS[wanted.needs]
    while True:
        for task in pending.in_order(lambda signature: signature.requires in ((), needs)):
            if taken == wanted.count:
                break
            pending.reserve(task, 1.0)
            (slot,) = [slot for slot, one in model.tasks.items() if one.task_id == task.key[1]]
            assert all(goes_with(task.locks, one.locks) for _, one in held.values())
            if task.concurrency_key is None and slot[2] is None:
                for other, one in model.tasks.items():
                    earlier = other[2] is None and other[3] == slot[3] and other[4] < slot[4]
                    able = one.requires in ((), needs) and one.concurrency_key is None
                    assert not (earlier and able) or goes_with(task.locks, one.locks)
            held[task.key[1]] = slot, model.tasks[slot]
            grant(model, pending, task)
            taken += 1
        if taken == wanted.count or not pending.unfinished:
            return taken


@given(st.lists(steps, max_size=50), st.integers(1, 4), st.sampled_from([2, 1_000]))
@settings(max_examples=300, deadline=None)
def test_against_the_model(script: list[Add | End | Take], lane_tasks_max: int, parked_max: int) -> None:
    """Nothing that overlaps is held twice, no later one passes an earlier one, and all are found in the end."""
    model, pending = make(lane_tasks_max, 8)
    pending.locks = path_locks.PathLocks(parked_max)
    held: dict[str, tuple[Slot, Found]] = {}
    order = 0
    for step in script:
        if isinstance(step, Add):
            order += 1
            add(
                model,
                pending,
                order,
                priority=step.priority,
                needs=step.needs,
                session=step.session,
                key=step.key,
                locks=step.locks,
            )
        elif isinstance(step, Take):
            take(model, pending, held, step)
        elif held:
            task_id = list(held)[step.which % len(held)]
            slot, found = held.pop(task_id)
            end(pending, task_id)
            if step.requeued:
                model.tasks[slot] = found
                pending.put("p", slot[1], found)
    while held or model.tasks:
        for task_id in list(held):
            end(pending, task_id)
        held.clear()
        taken = sum(take(model, pending, held, Take(needs, 1_000)) for needs in (0, 1))
        assert taken or not model.tasks, "one is never found"
    assert (len(pending), len(pending.locks)) == (0, 0)
