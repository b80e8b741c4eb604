"""Work rows: in order, within the bound, kept until done."""

from __future__ import annotations

import msgspec
import pytest

from statemachine import limits, machine, work
from statemachine.commands import DoWork
from statemachine.context import Context
from statemachine.store import Overlay
from tests.statemachine.harness import Harness

Payload = dict[str, int | str]


@pytest.fixture
def h(monkeypatch: pytest.MonkeyPatch) -> Harness:
    def drain(ctx: Context, payload: Payload, effects_max: int) -> tuple[int, Payload | None]:
        count = int(payload["count"])
        done = min(count, effects_max)
        revision = ctx.take_revision()
        ctx.change(revision, "test.drained", "test", str(payload["name"]), data={"done": done}, project="")
        return done, {**payload, "count": count - done} if count > done else None

    monkeypatch.setitem(work.KINDS, "test", drain)
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 10)
    return Harness()


def add(h: Harness, **counts: int) -> None:
    overlay, meta = Overlay(h.store), machine.read_meta(h.store)
    ctx = Context(overlay, meta, None, h.frame(DoWork()), h.time_ms)
    for name, count in counts.items():
        work.add(ctx, "test", {"name": name, "count": count})
    overlay.put(b"M", msgspec.msgpack.encode(meta))
    h.store.apply(overlay.writes())


def step(h: Harness) -> list[tuple[str, int]]:
    h.do(DoWork())
    return [(change.resource_id, change.data["done"]) for change in h.changes if change.data]


def test_steps_are_bounded_and_in_order(h: Harness) -> None:
    add(h, a=4, b=13, c=1)
    assert [row.payload["name"] for _, row in work.scan(h.store)] == ["a", "b", "c"]
    assert step(h) == [("a", 4), ("b", 6)]
    h.check()
    assert step(h) == [("c", 1), ("b", 7)], "what was too much for a step goes to the end of the line"
    assert not work.waiting(h.store)


def test_a_large_work_does_not_hold_up_small_ones(h: Harness) -> None:
    add(h, large=1_000, small=1)
    assert step(h) == [("large", 10)]
    assert step(h) == [("small", 1), ("large", 9)]
    h.check()


def test_no_work_takes_no_revision(h: Harness) -> None:
    revision = machine.read_meta(h.store).revision
    outcome = h.do(DoWork())
    assert [item.status for item in outcome.items] == [0]
    assert machine.read_meta(h.store).revision == revision


def test_a_row_that_needed_nothing_is_progress(h: Harness) -> None:
    add(h, a=0)
    (item,) = h.do(DoWork()).items
    assert (item.status, item.numbers) == (200, (1,))


def test_many_empty_rows_are_done_within_the_bound(h: Harness) -> None:
    add(h, **{f"n{i}": 0 for i in range(25)})
    steps = 0
    while work.waiting(h.store):
        assert len(step(h)) <= 10
        steps += 1
    assert steps == 3


def test_nobody_can_leave_work_that_nobody_does(h: Harness) -> None:
    ctx = Context(Overlay(h.store), machine.read_meta(h.store), None, h.frame(DoWork()), h.time_ms)
    with pytest.raises(AssertionError, match="nobody drains"):
        work.add(ctx, "unknown", {})


def test_work_without_progress_is_a_defect(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(work.KINDS, "test", lambda ctx, payload, effects_max: (0, payload))
    add(h, a=1)
    ctx = Context(Overlay(h.store), machine.read_meta(h.store), None, h.frame(DoWork()), h.time_ms)
    with pytest.raises(AssertionError, match="no progress"):
        work.HANDLERS[DoWork](ctx, DoWork())
