"""Sessions under histories of chance: every invariant holds after every entry, and a model says what must be there."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import audit, events, machine, session_record, sessions
from statemachine.commands import (
    AppendEvents,
    Command,
    CreateSession,
    DeleteSession,
    DoWork,
    ExpireSessions,
    NewEvent,
    UpdateSession,
)
from statemachine.session_record import SessionStatus
from tests.statemachine.driver import Driver, frame, key

NAMES = st.sampled_from(["a", "b", "c"])
TIMES = st.none() | st.integers(0, 60).map(lambda after: 1_700_000_000_000 + after)


def _events(count: int) -> tuple[NewEvent, ...]:
    return tuple(NewEvent(f"e{number}", f"custom.t{number % 5}") for number in range(count))


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(CreateSession, NAMES, user=st.sampled_from([None, "ann"]), expires_at=TIMES),
    st.builds(
        lambda name, status: UpdateSession(name, ("status",), status=status),
        NAMES,
        st.sampled_from([status.value for status in SessionStatus]),
    ),
    st.builds(lambda name, at: UpdateSession(name, ("expires_at",), expires_at=at), NAMES, TIMES),
    st.builds(
        lambda name, count, expected: AppendEvents(name, _events(count), expected),
        NAMES,
        st.sampled_from([1, 2, 300]),
        st.sampled_from([None, None, 0, 1, 2]),
    ),
    st.builds(DeleteSession, NAMES),
    st.just(ExpireSessions(("a", "b", "c"))),
    st.just(DoWork()),
)
STEPS = st.lists(
    st.tuples(st.integers(0, 10), st.lists(st.tuples(COMMANDS, st.none() | st.integers(0, 4)), max_size=4)), max_size=15
)


def _check_index(driver: Driver) -> None:
    """The index of expiries holds exactly the open sessions that have a time."""
    kept = [session for _, session in sessions.scan(driver.store, 1, sessions.SessionFilter()) if session is not None]
    wanted = sorted(found for session in kept if (found := sessions.expiry_key(1, session)) is not None)
    assert [found for found, _ in driver.store.scan(b"e", b"f")] == wanted


@settings(derandomize=True, deadline=None, max_examples=80)
@given(STEPS)
def test_invariants_hold_after_every_entry(steps: list[tuple[int, list[tuple[Command, int | None]]]]) -> None:
    driver = Driver()
    model: dict[str, int] = {}
    former: dict[str, int] = {}
    first: dict[str, int] = {}
    for pause_ms, commands in steps:
        driver.time_ms += pause_ms
        frames = [
            frame(command, idempotency=None if number is None else key(f"k{number}", digest=repr(command)[:16]))
            for command, number in commands
        ]
        outcomes = driver.entry(*frames).outcomes[0]
        for (command, _), outcome in zip(commands, outcomes, strict=True):
            if outcome.refusal is not None or outcome.replayed:
                continue
            if isinstance(command, CreateSession):
                first.setdefault(command.session_id, former.get(command.session_id, 0) + 1)
                model.setdefault(command.session_id, former.get(command.session_id, 0))
            elif isinstance(command, DeleteSession):
                former[command.session_id] = model.pop(command.session_id)
                del first[command.session_id]
            elif isinstance(command, AppendEvents):
                before = model[command.session_id]
                assert outcome.items[0].numbers == (before + 1, before + len(command.events))
                model[command.session_id] = before + len(command.events)
        assert audit.audit(driver.store) == []
        _check_index(driver)
    assert machine.read_meta(driver.store).internal_errors == 0
    for name in ("a", "b", "c"):
        session = session_record.find(driver.store, 1, name)
        assert (None if session is None else session.last_seq) == model.get(name)
        if session is not None:
            seqs = [seq for seq, _ in events.scan(driver.store, 1, session, events.EventFilter())]
            assert seqs == list(range(first[name], session.last_seq + 1))
            assert sum(session.stats.by_type.values()) == len(seqs)
