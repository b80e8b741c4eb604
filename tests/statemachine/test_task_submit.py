"""New tasks: repeats, unique keys, dependencies within a batch, all or none, large bodies, few writes."""

from __future__ import annotations

import msgspec
import pytest

from statemachine import commands, limits, machine, task_record
from statemachine.commands import NewTask, SubmitTasks
from statemachine.outcome import Item, Refusal
from statemachine.task_states import TaskState
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    return Harness()


def submit(h: Harness, *items: NewTask, atomic: bool = False) -> tuple[Item, ...]:
    outcome = h.do(SubmitTasks(items, atomic))
    assert outcome.refusal is None, outcome.refusal
    h.check()
    return outcome.items


def paths(refusal: Refusal | None) -> list[str]:
    assert refusal is not None
    assert refusal.code == "invalid_request"
    assert refusal.current is not None
    return [error["path"] for error in refusal.current["errors"]]


def test_a_plain_pending_task_costs_three_writes(h: Harness) -> None:
    h.submit("first")
    h.submit("second", payload=b'{"a":1}')
    assert h.applied is not None
    tables = [key[:1] for key, _ in h.applied.writes if key[:1] in b"TtQBDKdGgU"]
    assert sorted(tables) == [b"Q", b"T", b"t"]


def test_fields_come_back(h: Harness) -> None:
    h.submit("t1", payload=b'{"a":  1}', title="x", delay_ms=50, deadline_in_ms=70, session_id="s1", priority=9)
    task = h.task("t1")
    assert task.status is TaskState.SCHEDULED
    assert (task.payload, task.title, task.priority, task.session_id) == (b'{"a":  1}', "x", 9, "s1")
    assert (task.not_before, task.due_at, task.deadline) == (h.time_ms + 50, h.time_ms + 50, h.time_ms + 70)
    assert h.changes[0].type == "task.created"
    assert h.changes[0].topics == ("queue.default", "session.s1")
    assert h.changes[0].data == {"to": "scheduled"}


def test_same_id_and_content_again_changes_nothing(h: Harness) -> None:
    first = h.submit("t1", payload=b"1")
    content = h.content()
    again = h.submit("t1", payload=b"1")
    assert (again.status, again.resource_id, again.revision) == (200, "t1", first.revision)
    assert h.content() == content


def test_same_id_other_content_exists(h: Harness) -> None:
    h.submit("t1", payload=b"1")
    refusal = h.refusal(SubmitTasks((NewTask("t1", payload=b"2"),)))
    assert refusal.code == "exists"
    assert refusal.current is not None
    assert refusal.current["status"] == "pending"


def test_unique_key_is_held_until_the_end(h: Harness) -> None:
    h.register()
    h.submit("t1", unique_key="k")
    assert h.submit("t2", unique_key="k").resource_id == "t1"
    h.run("t1")
    assert h.submit("t2", unique_key="k").status == 201
    h.check()


def test_unique_key_within_one_batch_and_what_depends_on_it(h: Harness) -> None:
    items = submit(h, NewTask("a", unique_key="k"), NewTask("b", unique_key="k"), NewTask("c", depends_on=("b",)))
    assert [(item.status, item.resource_id) for item in items] == [(201, "a"), (200, "a"), (201, "c")]
    assert h.task("c").depends_on == ("a",)


def test_redrive_does_not_steal_a_unique_key(h: Harness) -> None:
    h.register()
    h.submit("t1", unique_key="k", max_attempts=1)
    h.fail("t1", "a1", h.claim())
    h.submit("t2", unique_key="k")
    refusal = h.refusal(commands.RetryTask("t1"))
    assert refusal.code == "conflict"
    assert refusal.current is not None
    assert refusal.current["task_id"] == "t2"


def test_items_may_depend_on_each_other_in_any_order(h: Harness) -> None:
    items = submit(h, NewTask("c", depends_on=("b", "a")), NewTask("b", depends_on=("a",)), NewTask("a"), NewTask("d"))
    assert [(item.status, item.resource_id) for item in items] == [(201, "c"), (201, "b"), (201, "a"), (201, "d")]
    assert len({item.revision for item in items}) == 4
    assert [h.task(name).status for name in "abcd"] == ["pending", "blocked", "blocked", "pending"]
    assert h.task("c").unmet == 2


def test_an_unknown_dependency_is_named(h: Harness) -> None:
    items = submit(
        h, NewTask("a"), NewTask("b"), NewTask("c", depends_on=("a", "nope")), NewTask("d", depends_on=("c",))
    )
    assert [item.status for item in items] == [201, 201, 0, 0]
    assert paths(items[2].refusal) == ["items[2].depends_on[1]"]
    assert paths(items[3].refusal) == ["items[3].depends_on[0]"]


def test_a_cycle_is_refused_and_all_that_hangs_on_it(h: Harness) -> None:
    items = submit(
        h,
        NewTask("a", depends_on=("b",)),
        NewTask("b", depends_on=("c",)),
        NewTask("c", depends_on=("a",)),
        NewTask("d", depends_on=("a",)),
        NewTask("e"),
        NewTask("f", depends_on=("f",)),
    )
    assert [item.status for item in items] == [0, 0, 0, 0, 201, 0]
    assert paths(items[2].refusal) == ["items[2].depends_on[0]"]
    assert "cycle" in items[2].refusal.detail if items[2].refusal else False
    assert paths(items[5].refusal) == ["items[5].depends_on[0]"]


def test_atomic_is_all_or_none_under_one_revision(h: Harness) -> None:
    items = submit(h, NewTask("b", depends_on=("a",)), NewTask("a"), atomic=True)
    assert len({item.revision for item in items}) == 1
    assert machine.read_meta(h.store).revision == items[0].revision
    refusal = h.refusal(SubmitTasks((NewTask("x"), NewTask("y", depends_on=("z",))), atomic=True))
    assert paths(refusal) == ["items[1].depends_on[0]"]
    assert task_record.find(h.store, h.project_no(), "x") is None
    revision = machine.read_meta(h.store).revision
    again = submit(h, NewTask("b", depends_on=("a",)), NewTask("a"), atomic=True)
    assert [item.status for item in again] == [200, 200]
    assert machine.read_meta(h.store).revision == revision


def test_a_long_chain_backwards_needs_no_recursion(h: Harness) -> None:
    count = limits.BATCH_ITEMS_MAX
    items = submit(h, *(NewTask(f"t{i}", depends_on=(f"t{i + 1}",) if i + 1 < count else ()) for i in range(count)))
    assert {item.status for item in items} == {201}


def test_too_many_dependencies_are_refused(h: Harness) -> None:
    one = NewTask("x", depends_on=tuple(f"d{i}" for i in range(limits.DEPENDENCIES_MAX + 1)))
    assert paths(h.refusal(SubmitTasks((one,)))) == ["items[0].depends_on"]
    many = tuple(NewTask(f"t{i}", depends_on=("a",) * 101) for i in range(100))
    assert paths(h.refusal(SubmitTasks(many))) == ["items"]


@pytest.mark.parametrize("field", ["task_id", "queue", "group_id", "unique_key"])
@pytest.mark.parametrize("text", ["", "x" * 129, "é" * 65, "a\0b"])
def test_what_does_not_fit_a_key_is_refused(h: Harness, field: str, text: str) -> None:
    new = msgspec.structs.replace(NewTask("t"), **{field: text})
    assert paths(h.refusal(SubmitTasks((new,)))) == [f"items[0].{field}"]


def test_large_bodies_live_outside_and_are_not_rewritten(h: Harness) -> None:
    h.register()
    payload, text = b'"' + b"p" * 5_000 + b'"', "ü" * 600
    h.submit("t1", payload=payload, description=text, metadata=b"{}")
    assert (h.task("t1").payload, h.task("t1").description, h.task("t1").metadata) == (payload, text, b"{}")
    attempt = h.claim()
    assert h.applied is not None
    assert sum(len(value or b"") for key, value in h.applied.writes if key[:1] in b"TB") < 1_000
    h.complete("t1", "a1", attempt, b'"' + b"r" * 5_000 + b'"')
    assert len(h.task("t1").result or b"") == 5_002
    h.check()
    with pytest.raises(AssertionError):
        task_record.encode(h.task("t1"))


def test_a_body_may_shrink(h: Harness) -> None:
    h.submit("t1", metadata=b'"' + b"m" * 5_000 + b'"')
    h.item(commands.UpdateTask("t1", ("metadata",), metadata=b"{}"))
    assert h.task("t1").metadata == b"{}"
    h.check()


def test_many_dependencies_live_outside(h: Harness) -> None:
    names = tuple(f"dependency-{i:04d}" for i in range(200))
    submit(h, *(NewTask(name) for name in names), NewTask("all", depends_on=names))
    raw = task_record.find(h.store, h.project_no(), "all")
    assert raw is not None
    assert raw.depends_on == ()
    assert h.task("all").depends_on == names


def test_unknown_project_is_refused() -> None:
    h = Harness("nowhere")
    frame = msgspec.structs.replace(h.frame(SubmitTasks((NewTask("t"),))), flags=0)
    (outcome,) = h.apply(frame)
    assert outcome.refusal is not None
    assert outcome.refusal.code == "unknown_project"
