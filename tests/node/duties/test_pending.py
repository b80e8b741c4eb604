"""The pending tasks in memory against a plain model of the same: order, lanes that are full, reservations."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from node.duties.lanes import Found, Signature
from node.duties.pending import PendingTasks

QUEUES = ("q0", "q1")
NEEDS = ((), (("python", 0),), (("go", 5_000),))


@dataclass
class Model:
    """The state: tasks by (queue, priority, order)."""

    tasks: dict[tuple[str, int, int], Found] = field(default_factory=dict)
    scanned: int = 0

    def scan(self, project: str, queue: str, priority: int, least: int, count_max: int) -> list[Found]:
        """As the state answers."""
        orders = sorted(o for q, p, o in self.tasks if (q, p) == (queue, priority) and o >= least)[:count_max]
        self.scanned += len(orders)
        return [self.tasks[queue, priority, order] for order in orders]


def make(lane_tasks_max: int = 100, scan_tasks_max: int = 1_000) -> tuple[Model, PendingTasks]:
    model = Model()
    return model, PendingTasks(model.scan, lane_tasks_max=lane_tasks_max, scan_tasks_max=scan_tasks_max)


def add(model: Model, pending: PendingTasks, order: int, queue: str = "q0", priority: int = 5, needs: int = 0) -> None:
    """A new task, announced as new tasks are."""
    model.tasks[queue, priority, order] = Found(f"t{order}", order, 0, NEEDS[needs])
    pending.news("p", queue)


def everything(_: Signature) -> bool:
    return True


def names(pending: PendingTasks, wanted: object = everything) -> list[str]:
    """What one pass sees."""
    return [task.key[1] for task in pending.in_order(wanted)]  # type: ignore[arg-type]  # a predicate


def test_priority_first_then_age_over_queues() -> None:
    model, pending = make()
    add(model, pending, 1)
    add(model, pending, 2, "q1", 9)
    add(model, pending, 3, "q1")
    add(model, pending, 4, "q0", 9, 1)
    assert names(pending) == ["t2", "t4", "t1", "t3"]
    assert names(pending) == ["t2", "t4", "t1", "t3"], "what was not taken is still there"


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


def test_full_lane_leaves_tasks_in_the_state_and_does_not_block_others() -> None:
    model, pending = make(lane_tasks_max=4)
    for order in range(20):
        add(model, pending, order, needs=1)
    add(model, pending, 20)
    assert names(pending, lambda signature: not signature.requires) == ["t20"]
    assert len(pending) == 5
    taken = []
    while tasks := list(pending.in_order(lambda signature: bool(signature.requires)))[:3]:
        for task in tasks:
            taken.append(task.order)
            del model.tasks["q0", 5, task.order]
            pending.drop(task.key)
    assert taken == list(range(20))


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


def test_requeued_task_keeps_its_place() -> None:
    model, pending = make()
    for order in range(3):
        add(model, pending, order)
    first = next(pending.in_order(everything))
    pending.drop(first.key)
    again = Found("t0", 0, 1, ())
    pending.put("p", "q0", 5, again)
    assert names(pending) == ["t0", "t1", "t2"]
    assert pending.get(("p", "t0")).attempt == 1  # type: ignore[union-attr]  # it was just put


steps = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(QUEUES), st.integers(3, 5), st.integers(0, 2)),
    st.tuples(st.just("requeue"), st.integers(0, 50)),
    st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 3)),
)


@given(st.lists(steps, max_size=60), st.integers(1, 4), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_against_the_model(script: list[tuple[object, ...]], lane_tasks_max: int, scan_tasks_max: int) -> None:
    """Whatever is done, agents of one need get their tasks in order of priority and age, and none is lost."""
    model, pending = make(lane_tasks_max, scan_tasks_max)
    taken: list[tuple[str, int, Found]] = []
    order = 0
    for step in script:
        if step[0] == "add":
            order += 1
            add(model, pending, order, str(step[1]), int(str(step[2])), int(str(step[3])))
        elif step[0] == "requeue" and taken:
            queue, priority, found = taken.pop(int(str(step[1])) % len(taken))
            model.tasks[queue, priority, found.order] = found
            pending.put("p", queue, priority, found)
        elif step[0] == "take":
            taken += _take(model, pending, NEEDS[int(str(step[1]))], int(str(step[2])))
    for needs in NEEDS:
        left = sorted((9 - p, o) for (_, p, o), found in model.tasks.items() if found.requires == needs)
        got = [(9 - priority, found.order) for _, priority, found in _take(model, pending, needs, 1_000)]
        assert sorted(got) == left
    assert not model.tasks
    assert len(pending) == 0


def _take(
    model: Model, pending: PendingTasks, needs: tuple[tuple[str, int], ...], count: int
) -> list[tuple[str, int, Found]]:
    found: list[tuple[str, int, Found]] = []
    while True:
        for task in pending.in_order(lambda signature: signature.requires == needs):
            if len(found) == count:
                break
            signature = task.lane.signature
            pending.reserve(task, 1.0)
            found.append(
                (
                    signature.queue,
                    signature.priority,
                    model.tasks.pop((signature.queue, signature.priority, task.order)),
                )
            )
            pending.drop(task.key)
        if len(found) == count or not pending.unfinished:
            return found
