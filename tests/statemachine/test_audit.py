"""The audit finds what it is there to find: every row that is lost, made up or changed."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from statemachine import agent_record, commands, groups, machine, path_locks, task_record
from statemachine.audit import audit
from statemachine.commands import NewEvent, NewTask, PathLock
from statemachine.entry import Idempotency
from statemachine.keys import TABLES
from statemachine.records import Meta
from statemachine.task_record import Task, Win
from statemachine.task_states import TaskState
from tests.statemachine.harness import Harness

WITHOUT_INVARIANT = {b"S", b"w", b"m"}
"""Settings; work (any row is legal to be missing here); members (tested with those)."""


@pytest.fixture
def h() -> Harness:
    """A state with something in every table."""
    h = Harness()
    h.register("a1", slots=9)
    h.register("a2")
    h.item(commands.CreateSession("s1"))
    h.item(commands.AppendEvents("s1", (NewEvent("e1", "custom.x"),)))
    h.item(commands.CreateSession("s2", expires_at=h.time_ms + 9_000))
    h.item(commands.CreateSession("s3"))
    h.item(commands.UpdateSession("s3", ("status",), status="completed"))
    h.item(commands.CreateSession("s4"))
    h.item(commands.AppendEvents("s4", (NewEvent("e1", "custom.x"),)))
    h.item(commands.DeleteSession("s4"))
    h.item(commands.PutBudget("project", "default", max_tokens=9, reserve_tokens=1))
    h.submit("pending", unique_key="k", group_id="g", deadline_in_ms=9_000)
    h.submit("large", payload=b'"' + b"x" * 2_000 + b'"', delay_ms=5_000)
    h.submit("blocked", depends_on=("pending", "large"))
    h.submit("running", group_id="g", concurrency_key="c", locks=(PathLock("src/**"),))
    h.submit("kept", concurrency_key="c", session_id="s1")
    h.submit("done")
    h.item(commands.CreateSchedule("sc", commands.Definition(NewTask(""), every_ms=1_000), h.time_ms + 1_000))
    h.submit("failed", group_id="g", max_attempts=1)
    h.claim("running")
    h.run("done")
    h.fail("failed", "a1", h.claim("failed"))
    h.submit("removed")
    h.run("removed")
    h.item(commands.RemoveEndedTasks((h.believed("removed"),)))
    h.apply(h.frame(commands.CancelTask("done"), key=Idempotency(b"k" * 16, b"d" * 16, 0, 1_000)))
    h.check()
    return h


def first(h: Harness, table: bytes) -> tuple[bytes, bytes]:
    return next(h.store.scan(table, bytes([table[0] + 1])))


@pytest.mark.parametrize("table", sorted(TABLES.keys() - WITHOUT_INVARIANT))
def test_a_lost_row_is_found(h: Harness, table: bytes) -> None:
    key, _ = first(h, table)
    h.store.apply([(key, None)])
    assert audit(h.store) != []


@pytest.mark.parametrize(
    "table",
    [
        b"t",
        b"f",
        b"F",
        b"B",
        b"Q",
        b"k",
        b"c",
        b"r",
        b"D",
        b"K",
        b"W",
        b"Z",
        b"z",
        b"e",
        b"d",
        b"G",
        b"U",
        b"a",
        b"H",
        b"x",
        b"E",
        b"l",
        b"?",
    ],
)
def test_a_made_up_row_is_found(h: Harness, table: bytes) -> None:
    key, value = first(h, table) if table in TABLES else (b"?abcdefgh", b"")
    h.store.apply([(key[:-2] + b"\x55" + key[-1:], value)])
    assert audit(h.store) != []


def test_a_changed_value_of_an_index_is_found(h: Harness) -> None:
    for table in (b"t", b"U", b"H", b"a", b"d", b"l"):
        key, value = first(h, table)
        h.store.apply([(key, b"+" if table == b"d" else bytes(7) + b"\x63")])
        assert audit(h.store) != [], table
        h.store.apply([(key, value)])
    h.check()


CORRUPTIONS: dict[str, Callable[[Task], None]] = {
    "holder": lambda task: setattr(task, "holder_no", 2),
    "nobody": lambda task: setattr(task, "agent_id", None),
    "status": lambda task: setattr(task, "status", TaskState.COMPLETED),
    "attempt": lambda task: setattr(task, "attempt", 0),
    "tries": lambda task: setattr(task, "tries", 4),
    "ended": lambda task: setattr(task, "completed_at", 1),
    "due": lambda task: setattr(task, "due_at", 1),
    "unmet": lambda task: setattr(task, "unmet", 1),
    "queue": lambda task: setattr(task, "group_id", "other"),
    "bodies": lambda task: setattr(task, "bodies", 1),
    "history": lambda task: setattr(task, "history", task.history * 2),
    "epoch": lambda task: setattr(task, "agent_epoch", 99),
    "project": lambda task: setattr(task, "project", "other"),
    "won twice": lambda task: setattr(task, "wins", (Win(1, "fail", "a1", 1), Win(1, "complete", "a2", 2))),
    "won by one": lambda task: setattr(task, "wins", (Win(1, "complete", "a1", 1),)),
    "won in future": lambda task: setattr(task, "wins", (Win(9, "fail", "a1", 1),)),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_impossible_task_is_found(h: Harness, name: str) -> None:
    task = task_record.find(h.store, h.project_no(), "running")
    assert task is not None
    CORRUPTIONS[name](task)
    h.store.apply([(task_record.key(task.project_no, task.number), task_record.encode(task))])
    assert audit(h.store) != []


def test_a_dependent_that_was_forgotten_is_found(h: Harness) -> None:
    h.do(commands.SubmitTasks((NewTask("x"), NewTask("y", depends_on=("x",), on_dependency_failure="cancel"))))
    before = h.task("y")
    (row,) = [row for row in h.store.scan(b"d", b"e") if row[0].endswith(before.number.to_bytes(8, "big"))]
    kept = h.store.get(task_record.key(before.project_no, before.number))
    h.item(commands.CancelTask("x"))
    h.store.apply([(task_record.key(before.project_no, before.number), kept), row])
    assert any("still waits for x" in fault for fault in audit(h.store))


def test_locks_that_do_not_go_together_are_found(h: Harness) -> None:
    h.submit("second", locks=(PathLock("docs/**"),))
    h.claim("second")
    h.check()
    task = task_record.find(h.store, h.project_no(), "second")
    assert task is not None
    rows = list(path_locks.rows_of(task))
    task.locks = (PathLock("src/a.py", exclusive=False),)
    h.store.apply([(row, None) for row in rows] + list(path_locks.rows_of(task).items()))
    h.store.apply([(task_record.key(task.project_no, task.number), task_record.encode(task))])
    assert audit(h.store) == [
        "tasks running and second hold locks that do not go together: src/a.py",
        "tasks second and running hold locks that do not go together: src/**",
    ]


def test_lost_and_made_up_locks_are_found(h: Harness) -> None:
    (row,) = path_locks.rows_of(h.task("running")).items()
    for key, value in ((row[0], None), (row[0], path_locks.SHARED + row[1][1:]), (row[0][:-1] + b"\x01", row[1])):
        before = h.store.get(key)
        h.store.apply([(key, value)])
        assert audit(h.store) != [], (key, value)
        h.store.apply([(key, before)])
    h.check()


def test_wrong_sums_are_found(h: Harness) -> None:
    project_no = h.project_no()
    group = groups.get(h.store, project_no, "g")
    assert group is not None
    for change in ({"counts": {"pending": 9}}, {"failed": ["pending"]}, {"failed": ["failed", "failed"]}):
        wrong = msgspec.structs.replace(group, **change)
        key, value = first(h, b"g")
        h.store.apply([(key, msgspec.msgpack.encode(wrong))])
        assert audit(h.store) != [], change
        h.store.apply([(key, value)])
    agent = h.agent("a1")
    for wrong_agent in (
        msgspec.structs.replace(agent, slots_high=1, max_concurrent=2),
        msgspec.structs.replace(agent, liveness="odd"),
        msgspec.structs.replace(agent, liveness="offline"),
        msgspec.structs.replace(agent, epoch=77),
        msgspec.structs.replace(agent, slots_high=0, max_concurrent=0),
    ):
        key, value = first(h, b"A")
        h.store.apply([(key, msgspec.msgpack.encode(wrong_agent))])
        assert audit(h.store) != [], wrong_agent
        h.store.apply([(key, value)])
    for load in (agent_record.Load(5), agent_record.Load(1, deleted=True)):
        key, value = first(h, b"L")
        h.store.apply([(key, msgspec.msgpack.encode(load))])
        assert audit(h.store) != [], load
        h.store.apply([(key, value)])
    h.check()


def test_wrong_bookkeeping_of_the_feed_is_found(h: Harness) -> None:
    meta = machine.read_meta(h.store)

    def with_meta(wrong: Meta) -> list[str]:
        h.store.apply([(b"M", msgspec.msgpack.encode(wrong))])
        return audit(h.store)

    assert with_meta(msgspec.structs.replace(meta, revision=meta.revision + 1))
    assert with_meta(msgspec.structs.replace(meta, feed_groups=1))
    assert with_meta(msgspec.structs.replace(meta, feed_revisions=1))
    assert with_meta(meta) == []
    h.store.apply([(b"w" + bytes(7) + b"\x09", msgspec.msgpack.encode(["odd", {}]))])
    assert len(audit(h.store)) == 1
