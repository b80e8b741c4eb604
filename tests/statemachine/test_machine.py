"""apply: all of a command or nothing, revisions without holes, the same bytes everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from statemachine import changes, commands, counters, machine
from statemachine.commands import (
    AppendEvents,
    Command,
    CreateProject,
    CreateSession,
    DeleteSession,
    ExpireSessions,
    NewEvent,
    UpdateSession,
)
from statemachine.context import Context
from statemachine.entry import Batch, Header
from statemachine.machine import StateUnusableError, UnknownCommandError
from statemachine.outcome import Item, Outcome, Refused, accepted
from statemachine.store import MemoryStore
from tests.statemachine.driver import START_MS, Driver, frame, key

EVENTS = (NewEvent("e1", "custom.a", b"{}"), NewEvent("e2", "custom.b"))


def _handle_with(monkeypatch: pytest.MonkeyPatch, handler: Callable[[Context, Command], Outcome]) -> None:
    handlers: dict[type[Command], machine.Handler] = {**machine.HANDLERS, DeleteSession: handler}
    monkeypatch.setattr(machine, "HANDLERS", handlers)


def _touch_everything(ctx: Context) -> int:
    revision = ctx.take_revision()
    ctx.state.put(b"Jjunk", b"junk")
    ctx.count("sessions.junk", 1)
    ctx.change(revision, "session.junk", "session", "x")
    ctx.meta.next_work += 1
    assert ctx.project is not None
    ctx.project.revision = 99
    return revision


def _state(driver: Driver) -> dict[bytes, bytes]:
    return dict(driver.store.scan(b"\x00", b"\xff"))


def test_every_command_has_a_handler_and_no_handler_is_left_over() -> None:
    assert set(machine.HANDLERS) == set(commands.COMMANDS.values())


def test_command_numbers_are_those_of_the_first_release() -> None:
    """Numbers are never reused: a log of today must mean the same for ever. New commands are added to this
    list."""
    assert {number: kind.__name__ for number, kind in commands.COMMANDS.items() if number < 20} == {
        1: "CreateProject",
        10: "CreateSession",
        11: "UpdateSession",
        12: "DeleteSession",
        13: "AppendEvents",
        14: "ExpireSessions",
        15: "RemoveEndedSessions",
    }


@pytest.mark.parametrize(
    "error", [KeyError("x"), ZeroDivisionError(), AssertionError("no"), RecursionError(), ValueError("bad")]
)
def test_a_handler_that_raises_is_refused_and_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def raising(ctx: Context, _: Command) -> Outcome:
        _touch_everything(ctx)
        raise error

    driver = Driver()
    driver.do(CreateSession("s"))
    _handle_with(monkeypatch, raising)
    before = _state(driver)
    applied = driver.entry(frame(DeleteSession("s"), idempotency=key("k")))
    (outcome,) = applied.outcomes[0]
    assert outcome.refusal is not None
    assert outcome.refusal.code == "internal"
    assert applied.changes == ()
    (told,) = applied.internal_errors
    assert told.startswith(f"DeleteSession: {type(error).__name__}:")
    assert "raising, line" in told
    after = _state(driver)
    assert {k for k in after if after[k] != before.get(k)} == {b"M"}
    meta = machine.read_meta(driver.store)
    assert (meta.internal_errors, meta.revision, meta.next_work) == (1, 1, 1)


def test_a_command_that_raises_does_not_touch_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(ctx: Context, _: Command) -> Outcome:
        _touch_everything(ctx)
        raise KeyError

    _handle_with(monkeypatch, raising)
    driver = Driver()
    applied = driver.entry(frame(CreateSession("a")), frame(DeleteSession("a")), frame(CreateSession("b")))
    codes = [None if outcome.refusal is None else outcome.refusal.code for outcome in applied.outcomes[0]]
    assert codes == [None, "internal", None]
    assert [change.revision for change in applied.changes] == [1, 2]
    assert counters.read(driver.store, 1) == {"sessions.active": 2}


def test_a_refusal_after_writes_leaves_no_trace_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(ctx: Context, _: Command) -> Outcome:
        _touch_everything(ctx)
        raise Refused("conflict", "too late", {"why": 1})

    driver = Driver()
    driver.do(CreateSession("s"))
    _handle_with(monkeypatch, refusing)
    refusal = driver.refused(DeleteSession("s"))
    assert (refusal.code, refusal.detail, refusal.current) == ("conflict", "too late", {"why": 1})
    assert driver.revision == 1


def _counts_below_zero(ctx: Context) -> None:
    ctx.count("sessions.junk", -2)


def _tells_what_cannot_be_kept(ctx: Context) -> None:
    ctx.change(ctx.meta.revision, "session.junk", "session", "x", data={"too_big": 2**70})


def _tells_of_an_old_revision(ctx: Context) -> None:
    ctx.change(ctx.meta.revision - 1, "session.junk", "session", "x")


def _tells_of_a_revision_it_did_not_take(ctx: Context) -> None:
    ctx.change(ctx.meta.revision + 1, "session.junk", "session", "x")


@pytest.mark.parametrize(
    "defect",
    [
        _counts_below_zero,
        _tells_what_cannot_be_kept,
        _tells_of_an_old_revision,
        _tells_of_a_revision_it_did_not_take,
    ],
)
def test_defects_that_would_show_at_the_end_of_the_entry_are_the_commands_own(
    monkeypatch: pytest.MonkeyPatch, defect: Callable[[Context], None]
) -> None:
    def handler(ctx: Context, _: Command) -> Outcome:
        revision = _touch_everything(ctx)
        defect(ctx)
        return accepted(Item(200, "x", revision))

    _handle_with(monkeypatch, handler)
    driver = Driver()
    assert driver.refused(DeleteSession("s")).code == "internal"
    assert driver.do(CreateSession("s")).revision == 1


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk"), StateUnusableError("page")])
def test_errors_of_storage_and_memory_stop_the_node(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def failing(_: Context, __: Command) -> Outcome:
        raise error

    _handle_with(monkeypatch, failing)
    with pytest.raises(type(error)):
        Driver().entry(frame(DeleteSession("s")))


@pytest.mark.parametrize(("number", "version"), [(250, 1), (12, 2)])
def test_an_unknown_command_stops_the_node(number: int, version: int) -> None:
    unknown = msgspec.structs.replace(frame(DeleteSession("s")), number=number, version=version)
    with pytest.raises(UnknownCommandError, match="upgrade"):
        Driver().entry(frame(CreateSession("s")), unknown)


def test_an_entry_of_a_newer_state_version_stops_the_node() -> None:
    with pytest.raises(UnknownCommandError, match="upgrade"):
        machine.apply(MemoryStore(), Header(START_MS, 1, 2), [])


@pytest.mark.parametrize("payload", [b"\xc0", b"\x91\x01", b"\x91\xa1\xff", b"\x90"])
def test_a_payload_that_fits_no_command_is_a_defect_and_changes_nothing(payload: bytes) -> None:
    driver = Driver()
    bent = msgspec.structs.replace(frame(CreateSession("s")), payload=msgspec.Raw(payload))
    refusal = driver.outcome(bent).refusal
    assert refusal is not None
    assert refusal.code == "internal"
    assert driver.revision == 0


def test_revisions_count_what_was_accepted() -> None:
    driver = Driver()
    applied = driver.entry(
        frame(CreateSession("a"), idempotency=key("k")),  # 1
        frame(CreateSession("a"), idempotency=key("k")),  # replay
        frame(CreateSession("a")),  # there already
        frame(CreateSession("a", title="other")),  # refused
        frame(AppendEvents("a", EVENTS)),  # 2, however many events
        frame(UpdateSession("a", ("title",))),  # changes nothing
        frame(ExpireSessions(("a", "nobody"))),  # not due
        frame(DeleteSession("a")),  # 3
    )
    assert [outcome.revision for outcome in applied.outcomes[0]] == [1, 1, 1, 1, 2, 2, 2, 3]
    assert (applied.first_revision, applied.revision) == (1, 3)
    assert [change.revision for change in applied.changes] == [1, 2, 3]


def test_time_never_goes_back() -> None:
    driver = Driver()
    driver.time_ms = START_MS - 5_000
    applied = driver.entry(frame(CreateSession("s")))
    assert applied.time_ms == START_MS
    assert machine.read_meta(driver.store).time_ms == START_MS


def test_an_entry_of_many_batches_answers_batch_by_batch() -> None:
    store = MemoryStore()
    batches = [
        Batch(1, 1, (frame(CreateSession("a")),)),
        Batch(2, 1, ()),
        Batch(3, 1, (frame(CreateProject()),) * 2),
    ]
    applied = machine.apply(store, Header(START_MS, 1), batches)
    assert [[outcome.items[0].status for outcome in batch] for batch in applied.outcomes] == [
        [201],
        [],
        [200, 200],
    ]


def _run_history(driver: Driver) -> bytes:
    """A history with a bit of everything -> digest of all writes, in their order."""
    digest = hashlib.sha256()
    for number in range(40):
        driver.time_ms += 10
        session_id, project = f"s{number % 7}", f"p{number % 3}"
        late = key(f"k{number}", uuid7_ms=driver.time_ms if number % 2 else 0, ttl_ms=100)
        kinds = tuple(NewEvent(f"e{number}-{i}", f"custom.t{(number * 7 + i) % 90}") for i in range(number))
        applied = driver.entry(
            frame(CreateSession(session_id, expires_at=driver.time_ms + 50), project=project, idempotency=late),
            frame(AppendEvents(session_id, kinds), project=project, idempotency=key(f"e{number % 5}")),
            frame(UpdateSession(session_id, ("user", "status"), user="u", status="paused"), project=project),
            frame(ExpireSessions(("s0", "s1", "s2")), project=project),
            frame(DeleteSession(f"s{(number + 3) % 7}"), project=project),
        )
        for write in applied.writes:
            digest.update(repr(write).encode())
        for outcomes in applied.outcomes:
            digest.update(msgspec.msgpack.encode(outcomes))
    return digest.digest()


def test_the_same_entries_make_the_same_bytes_in_every_process() -> None:
    here, again = Driver(), Driver()
    expected = _run_history(here)
    assert _run_history(again) == expected
    assert machine.read_meta(here.store).internal_errors == 0
    program = (
        "from tests.statemachine.driver import Driver\n"
        "from tests.statemachine.test_machine import _run_history\n"
        "print(_run_history(Driver()).hex())"
    )
    root = Path(__file__).parents[2]
    for seed in ("0", "1", "4242"):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert ran.stdout.strip() == expected.hex(), f"PYTHONHASHSEED={seed}"


def test_a_batch_of_entries_and_one_entry_come_to_the_same_resources() -> None:
    """How commands fall into entries is chance (group commit): nothing but the feed shows it."""
    frames = [frame(CreateSession(f"s{number}")) for number in range(5)] + [frame(AppendEvents("s1", EVENTS))]
    one, many = Driver(), Driver()
    one.entry(*frames)
    for each in frames:
        many.entry(each)
    tables = (b"J", b"j", b"E", b"n", b"P")
    for table in tables:
        end = bytes([table[0] + 1])
        assert list(one.store.scan(table, end)) == list(many.store.scan(table, end))
    assert [change for _, group in changes.read(one.store, 1) for change in group.changes] == [
        change for _, group in changes.read(many.store, 1) for change in group.changes
    ]
