"""The pending tasks in memory against a plain model of the same: order, strands that are full, reservations, turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.duties.lanes import Chunk, Found, Lane, PendingTask, Signature
from node.duties.pending import PendingTasks
from node.duties.queue_gate import QueueGate
from statemachine.commands import PathLock
from statemachine.queues import Queue

QUEUES = ("q0", "q1")
NEEDS = ((), (("python", 0),), (("go", 5_000),))
AGEING_MS = 1_000

Slot = tuple[str, str, str | None, int, int]
"""(project, queue, session, priority, order)."""


@dataclass
class Model:
    """The state: pending tasks, and settings of queues."""

    tasks: dict[Slot, Found] = field(default_factory=dict)
    queues: dict[tuple[str, str], Queue] = field(default_factory=dict)
    scanned: int = 0
    scans: int = 0

    def scan(
        self, project: str, queue: str, session: str | None, least: Mapping[int, int], count_max: int
    ) -> dict[int, Chunk]:
        """As the state answers."""
        chunks: dict[int, Chunk] = {}
        self.scans += 1
        for priority, order in least.items():
            run = (project, queue, session, priority)
            orders = sorted(slot[4] for slot in self.tasks if slot[:4] == run and slot[4] >= order)[:count_max]
            self.scanned += len(orders)
            tasks = [self.tasks[(*run, number)] for number in orders]
            chunks[priority] = tasks, orders[-1] + 1 if len(orders) == count_max else None
        return chunks

    def read_key(self, project: str, key: str, most: Callable[[str], int]) -> Iterator[tuple[str, list[Found]]]:
        """The first pending tasks of a concurrency key, by queue and need."""
        for queue in QUEUES:
            needs: dict[object, list[Found]] = {}
            for slot, one in self.tasks.items():
                if slot[:2] == (project, queue) and one.concurrency_key == key:
                    needs.setdefault((one.requires, one.locks), []).append(one)
            for found in needs.values():
                yield queue, sorted(found, key=lambda one: (-one.priority, one.order))[: most(queue)]


def make(lane_tasks_max: int = 100, scan_tasks_max: int = 1_000) -> tuple[Model, PendingTasks]:
    model = Model()
    gate = QueueGate(lambda project, queue: model.queues.get((project, queue)))
    pending = PendingTasks(
        model.scan,
        model.read_key,
        gate,
        lane_tasks_max=lane_tasks_max,
        scan_tasks_max=scan_tasks_max,
        ageing_ms=AGEING_MS,
    )
    return model, pending


def add(
    model: Model,
    pending: PendingTasks,
    order: int,
    queue: str = "q0",
    priority: int = 5,
    needs: int = 0,
    *,
    project: str = "p",
    session: str | None = None,
    since_ms: int = 0,
    key: str | None = None,
    locks: tuple[PathLock, ...] = (),
) -> None:
    """A new task, announced as new tasks are."""
    model.tasks[project, queue, session, priority, order] = Found(
        f"t{order}",
        order,
        0,
        NEEDS[needs],
        priority=priority,
        since_ms=since_ms,
        session=session,
        concurrency_key=key,
        locks=locks,
    )
    pending.news(project, queue, session)


def everything(_: Signature) -> bool:
    return True


def names(pending: PendingTasks, wanted: Callable[[Signature], bool] = everything) -> list[str]:
    """What one pass sees."""
    return [task.key[1] for task in pending.in_order(wanted)]


def give(model: Model, pending: PendingTasks, count: int = 1) -> list[str]:
    """Give tasks away, one pass for all -> their ids."""
    given: list[PendingTask] = []
    for task in pending.in_order(everything):
        pending.reserve(task, 1.0)
        given.append(task)
        if len(given) == count:
            break
    for task in given:
        grant(model, pending, task)
    return [task.key[1] for task in given]


def grant(model: Model, pending: PendingTasks, task: PendingTask) -> None:
    """The task was assigned: it is pending no more."""
    for slot in [slot for slot, found in model.tasks.items() if (slot[0], found.task_id) == task.key]:
        del model.tasks[slot]
    if task.concurrency_key is not None:
        pending.keys.hold(task.key, task.concurrency_key)
    if task.locks:
        pending.locks.hold(task.key, task.order, task.locks)
    pending.drop(task.key)


def test_priority_first_then_age_over_queues() -> None:
    model, pending = make()
    add(model, pending, 1)
    add(model, pending, 2, "q1", 9)
    add(model, pending, 3, "q1")
    add(model, pending, 4, "q0", 9, 1)
    assert names(pending) == ["t2", "t4", "t1", "t3"]
    assert names(pending) == ["t2", "t4", "t1", "t3"], "what was not taken is still there"


def test_waiting_is_worth_priorities() -> None:
    model, pending = make()
    add(model, pending, 1, priority=2)
    add(model, pending, 2, priority=9, since_ms=7 * AGEING_MS)
    add(model, pending, 3, priority=9, since_ms=7 * AGEING_MS + 1)
    add(model, pending, 4, priority=9, since_ms=2)
    assert names(pending) == ["t4", "t1", "t2", "t3"]


def test_unmatchable_tasks_are_read_once() -> None:
    model, pending = make()
    for order in range(50):
        add(model, pending, order, needs=1)
    add(model, pending, 50)

    def plain(signature: Signature) -> bool:
        return not signature.requires

    assert names(pending, plain) == ["t50"]
    read = model.scanned
    assert names(pending, plain) == ["t50"]
    assert model.scanned == read


def test_full_strand_leaves_tasks_in_the_state_and_does_not_block_others() -> None:
    model, pending = make(lane_tasks_max=4)
    for order in range(20):
        add(model, pending, order, needs=1)
    add(model, pending, 20)
    assert names(pending, lambda signature: not signature.requires) == ["t20"]
    assert len(pending) == 5
    taken = []
    while tasks := list(pending.in_order(everything))[:3]:
        for task in tasks:
            taken.append(task.order)
            grant(model, pending, task)
    assert taken == list(range(21))


def test_reserved_tasks_are_passed_over_until_they_lapse() -> None:
    model, pending = make()
    for order in range(3):
        add(model, pending, order)
    first = next(pending.in_order(everything))
    pending.reserve(first, 10.0)
    assert names(pending) == ["t1", "t2"]
    assert pending.lapse(9.0) == 0
    assert pending.lapse(10.0) == 1
    assert names(pending) == ["t0", "t1", "t2"]


def test_a_pass_reads_only_so_much() -> None:
    model, pending = make(scan_tasks_max=10)
    for order in range(25):
        add(model, pending, order, needs=1)
    add(model, pending, 25)

    def plain(signature: Signature) -> bool:
        return not signature.requires

    found, passes = names(pending, plain), 1
    while pending.unfinished:
        found = names(pending, plain)
        passes += 1
    assert found == ["t25"]
    assert 3 <= passes < 10


def test_a_backlog_that_is_served_is_read_as_far_as_it_is_given_away() -> None:
    model, pending = make()
    for order in range(5_000):
        add(model, pending, order)
    for first in range(0, 50, 10):
        assert give(model, pending, 10) == [f"t{order}" for order in range(first, first + 10)]
    assert model.scanned <= 512


def test_requeued_task_keeps_its_place() -> None:
    model, pending = make()
    for order in range(3):
        add(model, pending, order)
    first = next(pending.in_order(everything))
    pending.drop(first.key)
    again = Found("t0", 0, 1, ())
    pending.put("p", "q0", again)
    assert names(pending) == ["t0", "t1", "t2"]
    assert pending.get(("p", "t0")).attempt == 1  # type: ignore[union-attr]  # it was just put


# --- turns ------------------------------------------------------------------------------------------------------------


def test_the_first_task_of_another_project_is_next_whatever_its_priority() -> None:
    model, pending = make()
    for order in range(2_000):
        add(model, pending, order, priority=9, project="big")
    assert give(model, pending, 3) == ["t0", "t1", "t2"]
    add(model, pending, 9_000, priority=0, project="small", since_ms=1_000_000)
    assert give(model, pending, 3) == ["t9000", "t3", "t4"], "and then what is left"


def test_sessions_take_turns_beside_a_backlog() -> None:
    model, pending = make()
    for order in range(2_000):
        add(model, pending, order, session="long")
    assert give(model, pending, 2) == ["t0", "t1"]
    for order in (5_000, 5_001, 5_002):
        add(model, pending, order, session="late", since_ms=100)
    assert give(model, pending, 5) == ["t5000", "t5001", "t2", "t5002", "t3"], "until both have as much"


def test_turns_are_charged_by_measured_run_time() -> None:
    model, pending = make()
    for order in range(200):
        add(model, pending, order, session="slow")
        add(model, pending, 1_000 + order, session="quick")
    given = {"slow": 0, "quick": 0}
    now_s = 0.0
    for _ in range(120):
        (task_id,) = give(model, pending)
        session = "slow" if int(task_id[1:]) < 1_000 else "quick"
        given[session] += 1
        pending.fairness.started(("p", task_id), "p", session, now_s)
        now_s += 9.0 if session == "slow" else 1.0
        pending.settle(("p", task_id), now_s)
    assert 8 * given["slow"] <= given["quick"] <= 10 * given["slow"] + 10


def test_whoever_was_idle_saves_nothing_up_and_is_forgotten() -> None:
    model, pending = make()
    add(model, pending, 1, session="a")
    assert give(model, pending) == ["t1"]
    pending.settle(("p", "t1"), 0.0)
    for order in range(10, 40):
        add(model, pending, order, session="b")
    now_s = 0.0
    for task_id in (f"t{order}" for order in range(10, 20)):
        assert give(model, pending) == [task_id]
        pending.fairness.started(("p", task_id), "p", "b", now_s)
        now_s += 1.0
        pending.settle(("p", task_id), now_s)
    for order in range(50, 60):
        add(model, pending, order, session="a", since_ms=5)
    seen = give(model, pending, 6)
    assert {"a" if int(task_id[1:]) >= 50 else "b" for task_id in seen} == {"a", "b"}
    for task in list(model.tasks.values()):
        pending.drop(("p", task.task_id))
    model.tasks.clear()
    assert names(pending) == []
    assert pending.runs == 0, "the runs of sessions go with their tasks"


def test_ten_thousand_sessions_cost_a_decision_no_more_than_ten() -> None:
    looked = {}
    for count in (10, 10_000):
        model, pending = make(scan_tasks_max=100_000)
        for order in range(count):
            run = Found(f"t{order}", order, 0, (), session=f"s{order}")
            model.tasks["p", "q0", f"s{order}", 5, order] = run
        by_session = {slot[2]: slot for slot in model.tasks}

        def scan(
            project: str,
            queue: str,
            session: str | None,
            least: Mapping[int, int],
            count_max: int,
            model: Model = model,
            by_session: dict[str | None, Slot] = by_session,
        ) -> dict[int, Chunk]:
            model.scans += 1
            slot = by_session.get(session)
            here = [] if slot is None or slot not in model.tasks else [model.tasks[slot]]
            return {p: (here if p == 5 else [], None) for p in least}

        pending._reading._scan = scan
        for order in range(count):
            pending.news("p", "q0", f"s{order}")
        assert len(list(islice(pending.in_order(everything), 1))) == 1
        asked: list[Signature] = []

        def counted(signature: Signature, asked: list[Signature] = asked) -> bool:
            asked.append(signature)
            return True

        scans = model.scans
        assert len(list(islice(pending.in_order(counted), 5))) == 5
        looked[count] = len(asked), model.scans - scans
    assert looked[10] == looked[10_000]


# --- queues and keys --------------------------------------------------------------------------------------------------


def test_a_closed_queue_is_neither_read_nor_given_away() -> None:
    model, pending = make()
    for order in range(5):
        add(model, pending, order)
        add(model, pending, 10 + order, "q1")
    queue = Queue(1, "q0", 0, 1, 1, configured=True, paused=True)
    model.queues["p", "q0"] = queue
    pending.gate.see("p", queue)
    pending.gate.begin(0)
    assert names(pending) == [f"t{10 + order}" for order in range(5)]
    assert model.scanned == 5
    open_again = Queue(1, "q0", 0, 1, 1, configured=True, max_running=2)
    model.queues["p", "q0"] = open_again
    pending.gate.see("p", open_again)
    pending.gate.begin(0)
    taken: list[PendingTask] = []
    for task in pending.in_order(everything):
        pending.reserve(task, 1.0)
        taken.append(task)
    assert [task.key[1] for task in taken] == ["t0", "t1", "t10", "t11", "t12", "t13", "t14"]
    assert pending.gate.wait_s() is None
    pending.unreserve(taken[0])
    assert give(model, pending, 9) == ["t0"], "what is reserved counts until it is told"


def test_a_rate_says_when_there_is_more() -> None:
    model, pending = make()
    for order in range(5):
        add(model, pending, order)
    queue = Queue(1, "q0", 0, 1, 1, configured=True, rate_milli=2_000, next_grant_ns=10_000_000_000)
    model.queues["p", "q0"] = queue
    pending.gate.see("p", queue)
    pending.gate.begin(9_300)
    assert names(pending) == []
    assert pending.gate.wait_s() == 0.2
    pending.gate.begin(9_500)
    assert names(pending)[:1] == ["t0"]


def test_of_a_key_only_as_many_are_loaded_as_may_run() -> None:
    model, pending = make()
    for order in range(300):
        add(model, pending, order, key="k")
    add(model, pending, 400, priority=9, key="k")
    add(model, pending, 500)
    assert give(model, pending, 5) == ["t400", "t500"]
    assert names(pending) == []
    assert len(pending) == 0
    pending.keys.let_go(("p", "t400"))
    assert names(pending) == ["t0"]
    add(model, pending, 401, priority=9, key="k")
    assert names(pending) == ["t401"], "the more urgent one comes before that which was loaded"


def test_a_key_holds_over_queues() -> None:
    model, pending = make()
    add(model, pending, 1, "q0", key="k")
    add(model, pending, 2, "q1", key="k")
    assert give(model, pending, 2) == ["t1"]
    assert names(pending) == []
    pending.keys.let_go(("p", "t1"))
    assert names(pending) == ["t2"]


def test_what_is_read_ahead_by_its_key_does_not_overtake_what_is_not_read_yet() -> None:
    model, pending = make(scan_tasks_max=1)
    add(model, pending, 1, session="s")
    add(model, pending, 2)
    add(model, pending, 3, key="k")
    pending.keys.hold(("p", "other"), "k")
    pending.keys.let_go(("p", "other"))
    assert names(pending) == ["t1"], "one was read, and the third one by its key"
    assert pending.unfinished
    assert give(model, pending) == ["t1"]
    assert give(model, pending) == ["t2"]
    assert give(model, pending) == ["t3"]


def test_one_that_nobody_can_do_hides_no_other_of_its_key() -> None:
    model, pending = make()
    for order in range(1, 40):
        add(model, pending, order, needs=2, key="k")
    add(model, pending, 40, needs=1, key="k")
    add(model, pending, 41, key="k")

    def able(signature: Signature) -> bool:
        return signature.requires != NEEDS[2]

    assert names(pending, able) == ["t40", "t41"]
    assert len(pending) == 3, "the others of a need stay in the state"
    assert names(pending) == ["t1", "t40", "t41"], "the first of each need"
    assert give(model, pending, 3) == ["t1"], "and of them one at a time"
    pending.keys.let_go(("p", "t1"))
    assert names(pending, able) == ["t40", "t41"]


steps = st.one_of(
    st.tuples(
        st.just("add"),
        st.sampled_from(QUEUES),
        st.integers(3, 5),
        st.integers(0, 2),
        st.sampled_from([None, "s1", "s2"]),
        st.sampled_from([None, None, "k"]),
    ),
    st.tuples(st.just("requeue"), st.integers(0, 50)),
    st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 3)),
)


@given(st.lists(steps, max_size=60), st.integers(1, 4), st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_against_the_model(script: list[tuple[object, ...]], lane_tasks_max: int, scan_tasks_max: int) -> None:
    """Whatever is done, agents of every need get all their tasks, none twice, and never two of a key at a time."""
    model, pending = make(lane_tasks_max, scan_tasks_max)
    taken: list[tuple[Slot, Found]] = []
    order = 0
    for step in script:
        if step[0] == "add":
            order += 1
            _, queue, priority, needs, session, key = step
            add(
                model,
                pending,
                order,
                str(queue),
                int(str(priority)),
                int(str(needs)),
                session=None if session is None else str(session),
                key=None if key is None else str(key),
            )
        elif step[0] == "requeue" and taken:
            slot, found = taken.pop(int(str(step[1])) % len(taken))
            model.tasks[slot] = found
            pending.keys.let_go(("p", found.task_id))
            pending.settle(("p", found.task_id), 0.0)
            pending.put("p", slot[1], found)
        elif step[0] == "take":
            taken += _take(model, pending, NEEDS[int(str(step[1]))], int(str(step[2])))
            assert sum(found.concurrency_key is not None for _, found in taken) <= 1
    while taken or model.tasks:
        for _, found in taken:
            pending.keys.let_go(("p", found.task_id))
        taken = [one for needs in NEEDS for one in _take(model, pending, needs, 1_000)]
        assert taken or not model.tasks, "a task is never found"
    assert len(pending) == 0


def _take(
    model: Model, pending: PendingTasks, needs: tuple[tuple[str, int], ...], count: int
) -> list[tuple[Slot, Found]]:
    """Take what an agent that can do one thing may have; of each session and priority the oldest first."""
    found: list[tuple[Slot, Found]] = []
    while True:
        for task in pending.in_order(lambda signature: signature.requires in ((), needs)):
            if len(found) == count:
                break
            pending.reserve(task, 1.0)
            (slot,) = [slot for slot, one in model.tasks.items() if ("p", one.task_id) == task.key]
            before = [
                other
                for other, one in model.tasks.items()
                if other[1:4] == slot[1:4] and other[4] < slot[4] and one.requires in ((), needs)
            ]
            assert all(model.tasks[other].concurrency_key is not None for other in before)
            found.append((slot, model.tasks[slot]))
            grant(model, pending, task)
        if len(found) == count or not pending.unfinished:
            return found


def test_a_decision_looks_at_few_however_many_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    first = Lane.first

    def counted(lane: Lane) -> object:
        nonlocal looks
        looks += 1
        return first(lane)

    def cost(tasks: int) -> int:
        """Looks at lanes for 50 decisions of one pass, which reads the tasks as well."""
        nonlocal looks
        model, pending = make(lane_tasks_max=5_000, scan_tasks_max=5_000)
        for order in range(tasks):
            add(model, pending, order, priority=order % 10, needs=order % 3)
        for number, task in enumerate(pending.in_order(everything)):
            if number == 0:
                looks = 0
            pending.reserve(task, 1.0)
            if number == 50:
                break
        return looks

    monkeypatch.setattr(Lane, "first", counted)
    # Three lanes: each decision charges their session, so each moves; and no more than these.
    assert cost(100) <= 50 * 8
    assert cost(2_000) <= 50 * 8
