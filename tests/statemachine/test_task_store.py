"""What a transition writes: the difference of the index rows, worked out the short way where there is one."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import machine, task_record, task_rows, task_store
from statemachine.commands import DoWork, PathLock
from statemachine.context import Context
from statemachine.store import MemoryStore, Overlay
from statemachine.task_record import Task, Wait
from statemachine.task_states import TaskState
from tests.statemachine.harness import Harness

MS = st.integers(0, 5)
MAYBE_MS = st.none() | MS
RARE_MS = st.sampled_from([None, None, None, None, 3])
FIELDS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(list(TaskState)),
        "queue": st.sampled_from(["q", "r"]),
        "priority": st.integers(0, 9),
        "holder_no": st.sampled_from([0, 0, 7, 8]),
        "attempt": st.integers(0, 2),
        "completed_at": MAYBE_MS,
        "due_at": MAYBE_MS,
        "started_at": MAYBE_MS,
        "deadline": RARE_MS,
        "expires_unstarted_ms": RARE_MS,
        "run_timeout_ms": RARE_MS,
        "unique_key": st.sampled_from([None, None, None, "u"]),
        "concurrency_key": st.sampled_from([None, None, None, "c"]),
        "session_id": st.sampled_from([None, None, None, "s"]),
        "locks": st.sampled_from([(), (), (), (PathLock("src/a.py"),)]),
        "wait": st.sampled_from([None, Wait("time", "w", None, None, None, 1, 9, "resume", 1, "a1")]),
    }
)


def _task() -> Task:
    h = Harness()
    h.submit()
    return msgspec.structs.replace(h.task("t1"), bodies=0)


PLAIN = _task()


@settings(derandomize=True, deadline=None, max_examples=1_000)
@given(fields=FIELDS)
def test_the_short_way_to_the_only_row_says_what_the_long_one_says(fields: dict[str, object]) -> None:
    task = msgspec.structs.replace(PLAIN, **fields)
    row = task_rows.only_row(task)
    if row is not None:
        assert task_rows.index_rows(task) == dict([row])


def test_the_short_way_is_there_for_the_common_task() -> None:
    for status, holder_no in (("pending", 0), ("assigned", 7), ("running", 7), ("completed", 0)):
        task = msgspec.structs.replace(PLAIN, status=TaskState(status), holder_no=holder_no)
        assert task_rows.only_row(task) is not None


@settings(derandomize=True, deadline=None, max_examples=500)
@given(first=FIELDS, second=FIELDS)
def test_the_rows_after_a_change_are_those_of_the_record(first: dict[str, object], second: dict[str, object]) -> None:
    was = msgspec.structs.replace(PLAIN, **first)
    task = msgspec.structs.replace(PLAIN, **second)
    store = MemoryStore(task_rows.index_rows(was))
    overlay = Overlay(store)
    task_rows.save_rows(overlay, was, task)
    rows_now = task_rows.index_rows(task)
    for key, value in overlay.writes():
        assert store.get(key) != value, "what is as it was is not written"
    store.apply(overlay.writes())
    assert dict(store.scan(b"\x00", b"\xff")) == rows_now


def test_a_placement_keeps_the_record_as_it_was() -> None:
    task = _task()
    before = task_store.place(task)
    task.queue = "other"
    task.history = ()
    assert before.task is task
    assert before.was == PLAIN


def test_a_save_that_changes_nothing_counted_writes_the_record_alone() -> None:
    h = Harness()
    h.submit()
    task = _task()
    ctx = Context(Overlay(h.store), machine.read_meta(h.store), None, h.frame(DoWork()), h.time_ms)
    before = task_store.place(task)
    task.title = "another"
    task_store.save(ctx, before)
    assert ctx.state.writes() == [(task_record.key(task.project_no, task.number), task_record.encode(task))]
    assert ctx.counts == {}
