"""Reading tasks: lists with filters and cursors, dispatch order, and that no more is scanned than asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from statemachine import commands, task_queries
from statemachine.store import MemoryStore
from statemachine.task_queries import Page, TaskFilter
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1", slots=9)
    h.submit("t1", labels=b'{"lang":"python","size":3}', priority=1)
    h.advance(10)
    h.submit("t2", queue="other", group_id="g", session_id="s")
    h.submit("t3", type="lint", group_id="g", depends_on=("t1",))
    h.submit("t4", unique_key="k", priority=9, group_id="g2")
    h.claim("t2")
    h.item(commands.SubmitTasks((commands.NewTask("far"),)), project="elsewhere")
    return h


def names(h: Harness, wanted: TaskFilter, page: Page | None = None) -> list[str]:
    found = task_queries.list_tasks(h.store, h.project_no(), wanted, page)
    return [task.task_id for _, task in found if task is not None]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (TaskFilter(), ["t4", "t3", "t2", "t1"]),
        (TaskFilter(status=("pending", "blocked")), ["t4", "t3", "t1"]),
        (TaskFilter(queue=("other",)), ["t2"]),
        (TaskFilter(type=("lint", "x")), ["t3"]),
        (TaskFilter(agent_id=("a1",)), ["t2"]),
        (TaskFilter(session_id=("s",)), ["t2"]),
        (TaskFilter(group_id=("g",)), ["t3", "t2"]),
        (TaskFilter(group_id=("g", "g2", "none", "g")), ["t4", "t3", "t2"]),
        (TaskFilter(group_id=("g",), status=("running",)), ["t2"]),
        (TaskFilter(unique_key=("k",)), ["t4"]),
        (TaskFilter(depends_on=("t1", "t2", "none")), ["t3"]),
        (TaskFilter(depends_on=("t1",), group_id=("g2",)), []),
        (TaskFilter(ids=("t1", "t4", "none", "t1")), ["t4", "t1"]),
        (TaskFilter(ids=("far",)), []),
        (TaskFilter(label=(("lang", "python"), ("size", "3"))), ["t1"]),
        (TaskFilter(label=(("lang", "go"),)), []),
        (TaskFilter(created_since=1_700_000_000_010), ["t4", "t3", "t2"]),
        (TaskFilter(updated_since=1_700_000_000_011), []),
    ],
)
def test_filters(h: Harness, wanted: TaskFilter, expected: list[str]) -> None:
    assert names(h, wanted) == expected
    assert names(h, wanted, Page(ascending=True)) == expected[::-1]


def test_positions_resume_and_cover_what_does_not_match(h: Harness) -> None:
    project_no = h.project_no()
    for ascending in (False, True):
        for wanted in (TaskFilter(queue=("other",)), TaskFilter(group_id=("g", "g2"))):
            whole = list(task_queries.list_tasks(h.store, project_no, wanted, Page(ascending=ascending)))
            for cut in range(1, len(whole) + 1):
                position = whole[cut - 1][0]
                page = Page(after=position, ascending=True) if ascending else Page(before=position)
                assert list(task_queries.list_tasks(h.store, project_no, wanted, page)) == whole[cut:]
    assert len(list(task_queries.list_tasks(h.store, project_no, TaskFilter(queue=("other",))))) == 4


def test_dispatch_order(h: Harness) -> None:
    h.submit("t5", priority=9)
    h.submit("t6", queue="q2", priority=7)
    every = list(task_queries.pending(h.store))
    found = [(pending.priority, pending.queue, pending.project_no) for pending in every]
    elsewhere = h.project_no("elsewhere")
    here = h.project_no()
    assert found == [
        (9, "default", here),
        (9, "default", here),
        (7, "q2", here),
        (5, "default", elsewhere),
        (1, "default", here),
    ]
    assert [pending.number for pending in every[:2]] == [h.task("t4").number, h.task("t5").number]
    assert [p.queue for p in task_queries.pending(h.store, here, ("q2", "none"))] == ["q2"]
    assert task_queries.pending_queues(h.store, here) == [(here, "default"), (here, "q2")]
    assert list(task_queries.pending(h.store, 99)) == []


def test_held_is_found_by_agent(h: Harness) -> None:
    h.offer("t4")
    number = h.agent("a1").number
    assert [(no, task.task_id) for no, task in task_queries.held(h.store)] == [(number, "t2"), (number, "t4")]
    assert [task.task_id for task in task_queries.tasks_held_by(h.store, number)] == ["t2", "t4"]
    assert list(task_queries.tasks_held_by(h.store, number + 1)) == []


def test_dependency_results(h: Harness) -> None:
    big = b'"' + b"r" * 2_000 + b'"'
    h.complete("t1", "a1", h.claim("t1"), big)
    (result,) = task_queries.dependency_results(h.store, h.task("t3"))
    assert (result.task_id, result.status, result.result, result.artifacts) == ("t1", "completed", big, None)


class CountingReader:
    """Counts what is read of a store."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.rows = 0

    def get(self, key: bytes) -> bytes | None:
        self.rows += 1
        return self.store.get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for row in self.store.scan(start, end, reverse=reverse):
            self.rows += 1
            yield row


def test_no_query_reads_all_tasks(h: Harness) -> None:
    h.do(commands.SubmitTasks(tuple(commands.NewTask(f"n{i}", queue=f"q{i % 5}") for i in range(500))))
    reader = CountingReader(h.store)

    def cost(rows: Iterator[object] | list[object]) -> int:
        reader.rows = 0
        next(iter(rows), None)
        return reader.rows

    assert cost(task_queries.pending(reader)) < 30
    assert cost(task_queries.due_scheduled(reader, h.time_ms)) == 0
    assert cost(task_queries.timers(reader)) == 0
    assert cost(task_queries.list_tasks(reader, h.project_no(), TaskFilter())) == 2
    reader.rows = 0
    assert len(list(task_queries.held(reader))) == 1
    assert reader.rows == 2
    reader.rows = 0
    assert len(list(task_queries.list_tasks(reader, h.project_no(), TaskFilter(group_id=("g",))))) == 2
    assert reader.rows == 4
