"""The event log: seqs without gaps, statistics kept as it grows, every filter against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import events, limits, machine, session_record
from statemachine.commands import AppendEvents, Command, CreateSession, DeleteSession, NewEvent, UpdateSession
from statemachine.context import Context
from statemachine.events import Event, EventFilter
from statemachine.outcome import Item, Outcome, accepted
from statemachine.session_record import Session
from tests.statemachine.driver import START_MS, Driver, frame


def _driver() -> Driver:
    driver = Driver()
    driver.do(CreateSession("s", agent_id="a1"))
    return driver


def _session(driver: Driver) -> Session:
    session = session_record.find(driver.store, 1, "s")
    assert session is not None
    return session


def _read(driver: Driver, wanted: EventFilter | None = None) -> list[tuple[int, Event]]:
    rows = events.scan(driver.store, 1, _session(driver), wanted or EventFilter())
    return [(seq, event) for seq, event in rows if event is not None]


def test_appends_number_events_without_gap_under_one_revision_each() -> None:
    driver = _driver()
    first = NewEvent("e1", "custom.a", b'{"x": 1}', "ann", "c", "e0", START_MS - 5, (1, 2, 3), b"[]")
    assert driver.do(AppendEvents("s", (first, NewEvent("e2", "custom.b")))).numbers == (1, 2)
    driver.time_ms += 7
    item = driver.do(AppendEvents("s", (NewEvent("e3", "custom.a"),), expected_seq=2))
    assert (item.status, item.numbers, item.revision) == (201, (3, 3), 3)
    assert _read(driver) == [
        (1, Event(2, START_MS, first)),
        (2, Event(2, START_MS, NewEvent("e2", "custom.b"))),
        (3, Event(3, START_MS + 7, NewEvent("e3", "custom.a"))),
    ]
    session = _session(driver)
    assert (session.last_seq, session.revision, session.updated_at) == (3, 3, START_MS + 7)
    assert events.get(driver.store, 1, session, 2) == Event(2, START_MS, NewEvent("e2", "custom.b"))
    assert events.get(driver.store, 1, session, 4) is None


def test_an_append_costs_one_put_an_event_and_one_for_the_session() -> None:
    driver = _driver()
    applied = driver.entry(frame(AppendEvents("s", tuple(NewEvent(f"e{i}", "custom.a") for i in range(5)))))
    assert sorted(key[:1] for key, _ in applied.writes) == [b"C", *[b"E"] * 5, b"J", b"M"]


@pytest.mark.parametrize("expected_seq", [0, 1, 3])
def test_another_last_seq_than_expected_is_refused_with_the_real_one(expected_seq: int) -> None:
    driver = _driver()
    driver.do(AppendEvents("s", (NewEvent("e1", "custom.a"), NewEvent("e2", "custom.a"))))
    refusal = driver.refused(AppendEvents("s", (NewEvent("e3", "custom.a"),), expected_seq))
    assert (refusal.code, refusal.current) == ("sequence_mismatch", {"last_seq": 2})


def test_expecting_an_empty_log() -> None:
    driver = _driver()
    assert driver.do(AppendEvents("s", (NewEvent("e1", "custom.a"),), expected_seq=0)).numbers == (1, 1)


@pytest.mark.parametrize(
    ("event", "named"),
    [
        (NewEvent("e", "word"), "items[1].type"),
        (NewEvent("e", "custom." + "x" * 200), "items[1].type"),
        (NewEvent("e", "custom.a", usage=(-1, 0, 0)), "items[1].usage"),
        (NewEvent("e", "custom.a", usage=(0, 0, limits.USAGE_MAX + 1)), "items[1].usage"),
    ],
)
def test_an_append_is_whole_or_not_at_all(event: NewEvent, named: str) -> None:
    refusal = _driver().refused(AppendEvents("s", (NewEvent("good", "custom.a"), event)))
    assert refusal.code == "invalid_request"
    assert refusal.detail.startswith(named)


@pytest.mark.parametrize("count", [0, limits.BATCH_ITEMS_MAX + 1])
def test_an_append_has_one_to_a_thousand_events(count: int) -> None:
    refusal = _driver().refused(AppendEvents("s", (NewEvent("e", "custom.a"),) * count))
    assert refusal.code == "invalid_request"


def test_the_state_takes_types_that_its_own_catalogue_does_not_know() -> None:
    """The edge refuses them; a node with an older catalogue must still apply what a newer one accepted."""
    assert _driver().do(AppendEvents("s", (NewEvent("e", "task.invented"),))).status == 201


def test_one_change_an_append() -> None:
    driver = _driver()
    kinds = ("custom.b", "custom.a", "custom.b")
    applied = driver.entry(
        frame(AppendEvents("s", tuple(NewEvent(kind, kind, correlation_id="c") for kind in kinds))),
        frame(AppendEvents("s", (NewEvent("x", "custom.a", correlation_id="c"), NewEvent("y", "custom.a")))),
    )
    first, second = applied.changes
    assert (first.type, first.resource, first.resource_id, first.topics) == (
        "event.appended",
        "session",
        "s",
        ("agent.a1",),
    )
    assert first.data == {"first_seq": 1, "last_seq": 3, "types": ["custom.b", "custom.a"]}
    assert (first.correlation_id, second.correlation_id) == ("c", None)


def test_the_types_of_a_change_are_bounded() -> None:
    kinds = [f"custom.t{number}" for number in range(70)]
    applied = _driver().entry(frame(AppendEvents("s", tuple(NewEvent(kind, kind) for kind in kinds))))
    (change,) = applied.changes
    assert change.data is not None
    assert change.data["types"] == [*kinds[: limits.EVENT_TYPES_COUNTED_MAX], "other"]


def test_statistics_add_up() -> None:
    driver = _driver()
    driver.do(AppendEvents("s", (NewEvent("1", "custom.a", usage=(10, 20, 30)), NewEvent("2", "custom.b"))))
    driver.time_ms += 9
    driver.do(AppendEvents("s", (NewEvent("3", "custom.a", usage=(1, 2, 3)),)))
    stats = _session(driver).stats
    assert stats.by_type == {"custom.a": 2, "custom.b": 1}
    assert (stats.events, stats.input_tokens, stats.output_tokens, stats.cost) == (3, 11, 22, 33)
    assert (stats.first_event_at, stats.last_event_at) == (START_MS, START_MS + 9)


def test_statistics_of_two_sessions_are_their_own() -> None:
    driver = _driver()
    driver.do(CreateSession("other"))
    driver.do(AppendEvents("s", (NewEvent("1", "custom.a"),)))
    other = session_record.find(driver.store, 1, "other")
    assert other is not None
    assert other.stats.by_type == {}


def test_types_beyond_the_counted_ones_are_counted_together() -> None:
    driver = _driver()
    kinds = [f"custom.t{number}" for number in range(limits.EVENT_TYPES_COUNTED_MAX + 6)]
    for _ in range(2):
        driver.do(AppendEvents("s", tuple(NewEvent(kind, kind) for kind in kinds)))
    by_type = _session(driver).stats.by_type
    assert len(by_type) == limits.EVENT_TYPES_COUNTED_MAX + 1
    assert by_type["other"] == 12
    assert by_type["custom.t0"] == 2
    assert sum(by_type.values()) == 2 * len(kinds)


def test_sums_stop_at_what_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SUM_MAX", 100)
    driver = _driver()
    driver.do(AppendEvents("s", (NewEvent("1", "custom.a", usage=(60, 100, 101)),) * 2))
    stats = _session(driver).stats
    assert (stats.input_tokens, stats.output_tokens, stats.cost) == (100, 100, 100)


def test_large_data_is_kept_as_it_came() -> None:
    driver = _driver()
    data = b'"' + b"x" * (limits.PAYLOAD_BYTES_MAX - 2) + b'"'
    driver.do(AppendEvents("s", (NewEvent("e", "custom.a", data),)))
    ((_, event),) = _read(driver)
    assert event.event.data == data


def test_append_under_a_revision_taken_by_another_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """How tasks write their events: checked before anything is written, then under their own revision."""

    def handler(ctx: Context, _: Command) -> Outcome:
        new = (NewEvent("e", "task.completed"),)
        events.check_append(ctx, "s", new, 0)
        revision = ctx.take_revision()
        first_seq, last_seq = events.append(ctx, "s", new, revision, 0)
        return accepted(Item(200, "s", revision, (first_seq, last_seq)))

    driver = _driver()
    handlers: dict[type[Command], machine.Handler] = {**machine.HANDLERS, DeleteSession: handler}
    monkeypatch.setattr(machine, "HANDLERS", handlers)
    assert driver.do(DeleteSession("s")).numbers == (1, 1)
    assert _read(driver) == [(1, Event(2, START_MS, NewEvent("e", "task.completed")))]
    assert driver.refused(DeleteSession("s")).code == "sequence_mismatch"


def test_reading_goes_on_behind_any_seq_in_both_directions() -> None:
    driver = _driver()
    driver.do(AppendEvents("s", tuple(NewEvent(f"e{i}", "custom.a") for i in range(1, 8))))
    session = _session(driver)
    anything = EventFilter()
    for seq in range(9):
        up = [at for at, _ in events.scan(driver.store, 1, session, anything, after_seq=seq)]
        down = [at for at, _ in events.scan(driver.store, 1, session, anything, before_seq=seq, descending=True)]
        assert up == list(range(seq + 1, 8))
        assert down == list(range(min(seq, 8) - 1, 0, -1))
    both = [at for at, _ in events.scan(driver.store, 1, session, anything, after_seq=2, before_seq=5)]
    assert both == [3, 4]


def test_reading_holds_what_was_there_when_the_session_was_read() -> None:
    """A page is consistent with the session record it came with: the store's view is one transaction."""
    driver = _driver()
    driver.do(AppendEvents("s", (NewEvent("e1", "custom.a"),)))
    session = _session(driver)
    driver.do(AppendEvents("s", (NewEvent("e2", "custom.a"),)))
    assert [seq for seq, _ in events.scan(driver.store, 1, session, EventFilter())] == [1]


LOG = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["custom.a", "custom.b", "custom.c"]),
        st.sampled_from([None, "ann", "bob"]),
        st.sampled_from([None, "c1", "c2"]),
    ),
    max_size=14,
)
TIMES = st.none() | st.integers(START_MS - 1, START_MS + 30)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    log=LOG,
    types=st.lists(st.sampled_from(["custom.a", "custom.b"]), max_size=2),
    actor=st.sampled_from([None, "ann"]),
    correlation_id=st.sampled_from([None, "c1"]),
    since=TIMES,
    until=TIMES,
    after_seq=st.integers(0, 16),
    before_seq=st.none() | st.integers(0, 16),
    descending=st.booleans(),
)
def test_filters_against_a_plain_list(
    log: list[tuple[int, str, str | None, str | None]],
    types: list[str],
    actor: str | None,
    correlation_id: str | None,
    since: int | None,
    until: int | None,
    after_seq: int,
    before_seq: int | None,
    descending: bool,
) -> None:
    driver = _driver()
    expected = []
    for seq, (pause_ms, kind, who, about) in enumerate(log, 1):
        driver.time_ms += pause_ms
        driver.do(AppendEvents("s", (NewEvent(f"e{seq}", kind, actor=who, correlation_id=about),)))
        in_time = (since is None or driver.time_ms >= since) and (until is None or driver.time_ms < until)
        in_range = after_seq < seq and (before_seq is None or seq < before_seq)
        named = (not types or kind in types) and actor in (None, who) and correlation_id in (None, about)
        if in_time and in_range and named:
            expected.append(seq)
    wanted = EventFilter(tuple(types), actor, correlation_id, since, until)
    rows = events.scan(
        driver.store,
        1,
        _session(driver),
        wanted,
        after_seq=after_seq,
        before_seq=before_seq,
        descending=descending,
    )
    found = [seq for seq, event in rows if event is not None]
    assert found == (expected[::-1] if descending else expected)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), max_size=12), st.integers(-2, 40))
def test_seq_at_a_time(pauses_ms: list[int], offset_ms: int) -> None:
    driver = _driver()
    times = []
    for pause_ms in pauses_ms:
        driver.time_ms += pause_ms
        times.append(driver.time_ms)
        driver.do(AppendEvents("s", (NewEvent("e", "custom.a"),)))
    expected = next((seq for seq, at in enumerate(times, 1) if at >= START_MS + offset_ms), len(times) + 1)
    assert events.seq_at(driver.store, 1, _session(driver), START_MS + offset_ms) == expected


def test_a_hole_in_the_log_is_never_passed_over() -> None:
    driver = _driver()
    driver.do(AppendEvents("s", tuple(NewEvent(f"e{i}", "custom.a") for i in range(3))))
    session = _session(driver)
    (hole,) = [key for key, _ in driver.store.scan(b"E", b"F") if key.endswith(b"\x02")]
    driver.store.apply([(hole, None)])
    with pytest.raises(AssertionError, match="event 2"):
        events.seq_at(driver.store, 1, session, START_MS)


def test_what_is_written_between_pages_comes_after_them() -> None:
    driver = _driver()
    driver.do(AppendEvents("s", (NewEvent("e1", "custom.a"), NewEvent("e2", "custom.a"))))
    first_page = _read(driver)
    driver.do(UpdateSession("s", ("title",), title="touched"))
    driver.do(AppendEvents("s", (NewEvent("e3", "custom.a"),)))
    rows = events.scan(driver.store, 1, _session(driver), EventFilter(), after_seq=first_page[-1][0])
    assert [seq for seq, _ in rows] == [3]
