"""Sessions: creation, changes, the table of moves, expiry, deletion, and how they are found."""

from __future__ import annotations

import pytest

from statemachine import counters, events, limits, machine, session_record, sessions, work
from statemachine.commands import (
    AppendEvents,
    CreateSession,
    DeleteSession,
    DoWork,
    ExpireSessions,
    NewEvent,
    UpdateSession,
)
from statemachine.session_record import Session, SessionStatus
from statemachine.sessions import ACTIVE, ARCHIVED, COMPLETED, EXPIRED, MOVES, PAUSED, SessionFilter
from tests.statemachine.driver import START_MS, Driver, frame

ALL = [status.value for status in SessionStatus]


def _get(driver: Driver, session_id: str) -> Session:
    session = session_record.find(driver.store, 1, session_id)
    assert session is not None
    return session


def _counts(driver: Driver) -> dict[str, int]:
    return counters.read(driver.store, 1)


def _driver_with(status: str) -> Driver:
    """A state with one session "s" in a status."""
    driver = Driver()
    driver.do(CreateSession("s", expires_at=START_MS + 1_000 if status == EXPIRED else None))
    if status == EXPIRED:
        driver.time_ms += 1_000
        driver.do(ExpireSessions(("s",)))
    elif status != ACTIVE:
        driver.do(UpdateSession("s", ("status",), status=status))
    assert _get(driver, "s").status == status
    return driver


# --- creation -----------------------------------------------------------------------------------------------


def test_a_new_session_has_what_was_asked_for_and_empty_statistics() -> None:
    driver = Driver()
    item = driver.do(CreateSession("s", "a title", "agent-1", "ann", 7, START_MS + 5, b'{"k": [1]}'))
    assert (item.status, item.resource_id, item.revision) == (201, "s", 1)
    session = _get(driver, "s")
    assert (session.title, session.agent_id, session.user, session.priority) == (
        "a title",
        "agent-1",
        "ann",
        7,
    )
    assert (session.expires_at, session.metadata, session.parent) == (START_MS + 5, b'{"k": [1]}', None)
    assert (session.status, session.last_seq, session.created_at, session.updated_at) == (
        ACTIVE,
        0,
        START_MS,
        START_MS,
    )
    assert (session.created_revision, session.revision) == (1, 1)
    assert session.stats == session_record.Stats()
    assert _counts(driver) == {"sessions.active": 1}


def test_a_creation_costs_few_puts() -> None:
    driver = Driver()
    driver.do(CreateSession("first"))
    written = [write for write, _ in driver.entry(frame(CreateSession("second"))).writes]
    assert sorted(write[:1] for write in written) == [b"C", b"J", b"M", b"j", b"n"]


def test_creating_again_the_same_is_no_change_and_other_content_is_refused() -> None:
    driver = Driver()
    driver.do(CreateSession("s", title="x", metadata=b"{}"))
    driver.do(UpdateSession("s", ("title",), title="later"))
    again = driver.do(CreateSession("s", title="x", metadata=b"{}"))
    assert (again.status, again.revision, driver.revision) == (200, 2, 2)
    for other in (
        CreateSession("s"),
        CreateSession("s", title="later", metadata=b"{}"),
        CreateSession("s", title="x", metadata=b"{}", agent_id="a"),
        CreateSession("s", title="x", metadata=b"{}", user="u"),
        CreateSession("s", title="x", metadata=b"{}", priority=4),
        CreateSession("s", title="x", metadata=b"{}", expires_at=1),
        CreateSession("s", title="x", metadata=b"{ }"),
    ):
        refusal = driver.refused(other)
        assert refusal.code == "exists"
        assert refusal.current is not None
        assert (refusal.current["session_id"], refusal.current["revision"]) == ("s", 2)


@pytest.mark.parametrize("session_id", ["", "a b", "..", "batch", "x" * 129, "nul\0"])
def test_odd_ids_are_refused(session_id: str) -> None:
    assert Driver().refused(CreateSession(session_id)).code == "invalid_request"


# --- changes ------------------------------------------------------------------------------------------------


def test_a_patch_changes_what_it_names_and_nothing_else() -> None:
    driver = Driver()
    driver.do(CreateSession("s", title="x", user="ann", priority=3))
    driver.time_ms += 10
    applied = driver.entry(
        frame(UpdateSession("s", ("user", "metadata"), user=None, metadata=b"{}", title="ignored", priority=9))
    )
    session = _get(driver, "s")
    assert (session.title, session.user, session.priority, session.metadata) == ("x", None, 3, b"{}")
    assert (session.updated_at, session.revision, session.created_revision) == (START_MS + 10, 2, 1)
    (change,) = applied.changes
    assert (change.type, change.data) == ("session.updated", {"fields": ["user", "metadata"]})
    assert change.topics == ("user.ann",), "whoever followed it by its old owner must hear of the loss"


def test_a_patch_tells_apart_what_changed() -> None:
    driver = Driver()
    driver.do(CreateSession("s", title="x"))
    moved = driver.entry(frame(UpdateSession("s", ("status", "title"), status=PAUSED, title="x")))
    assert [change.type for change in moved.changes] == ["session.status_changed"]
    both = driver.entry(frame(UpdateSession("s", ("status", "title"), status=ACTIVE, title="y")))
    assert [(change.type, change.revision) for change in both.changes] == [
        ("session.updated", 3),
        ("session.status_changed", 3),
    ]


def test_a_patch_writes_no_more_than_it_must() -> None:
    driver = Driver()
    driver.do(CreateSession("s", expires_at=START_MS + 5))
    applied = driver.entry(frame(UpdateSession("s", ("title",), title="x")))
    assert [key[:1] for key, _ in applied.writes] == [b"C", b"J", b"M"]


def test_a_patch_that_changes_nothing_takes_no_revision() -> None:
    driver = Driver()
    driver.do(CreateSession("s", title="x"))
    driver.time_ms += 10
    item = driver.do(UpdateSession("s", ("title", "status"), title="x", status=ACTIVE))
    assert (item.status, item.revision, driver.revision) == (200, 1, 1)
    assert _get(driver, "s").updated_at == START_MS


def test_a_patch_of_an_old_revision_is_refused() -> None:
    driver = Driver()
    driver.do(CreateSession("s"))
    driver.do(UpdateSession("s", ("title",), title="x", if_revision=1))
    refusal = driver.refused(UpdateSession("s", ("title",), title="y", if_revision=1))
    assert refusal.code == "conflict"
    assert refusal.current is not None
    assert refusal.current["revision"] == 2


@pytest.mark.parametrize("field", ["session_id", "last_seq", "stats", "created_at", "nonsense"])
def test_a_patch_of_what_cannot_be_changed_is_refused(field: str) -> None:
    driver = Driver()
    driver.do(CreateSession("s"))
    assert driver.refused(UpdateSession("s", (field,))).code == "invalid_request"


@pytest.mark.parametrize(
    "command",
    [UpdateSession("s", ("title",)), DeleteSession("s"), AppendEvents("s", (NewEvent("e", "custom.a"),))],
)
def test_an_unknown_session_is_not_found(command: UpdateSession | DeleteSession | AppendEvents) -> None:
    assert Driver().refused(command).code == "not_found"


# --- moves --------------------------------------------------------------------------------------------------


def test_the_table_of_moves_is_the_one_that_is_documented() -> None:
    assert MOVES == {
        ACTIVE: (PAUSED, COMPLETED, ARCHIVED),
        PAUSED: (ACTIVE, COMPLETED, ARCHIVED),
        COMPLETED: (ACTIVE, ARCHIVED),
        EXPIRED: (ACTIVE, ARCHIVED),
        ARCHIVED: (ACTIVE,),
    }
    assert sorted(MOVES) == sorted(ALL)


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("status", ALL)
def test_every_pair_of_statuses(status: str, target: str) -> None:
    driver = _driver_with(status)
    command = UpdateSession("s", ("status", "expires_at"), status=target, expires_at=None)
    if target == status:
        assert driver.do(command).status == 200
    elif target in MOVES[status]:
        applied = driver.entry(frame(command))
        assert applied.outcomes[0][0].refusal is None
        assert ("session.status_changed", {"from": status, "to": target}) in [
            (change.type, change.data) for change in applied.changes
        ]
    else:
        refusal = driver.refused(command)
        assert refusal.code == "conflict"
        assert refusal.current is not None
        assert refusal.current["status"] == status
        target = status
    assert _get(driver, "s").status == target
    assert _counts(driver) == {f"sessions.{target}": 1}


@pytest.mark.parametrize("status", ALL)
def test_every_move_and_delete_keeps_the_counts_right(status: str) -> None:
    driver = _driver_with(status)
    driver.do(DeleteSession("s"))
    assert _counts(driver) == {}


def test_an_unknown_status_is_no_move() -> None:
    driver = _driver_with(ACTIVE)
    for status in ("running", "", None):
        assert driver.refused(UpdateSession("s", ("status",), status=status)).code == "invalid_request"


def test_opening_an_expired_session_needs_a_later_end() -> None:
    driver = _driver_with(EXPIRED)
    refusal = driver.refused(UpdateSession("s", ("status",), status=ACTIVE))
    assert refusal.code == "conflict"
    assert "expires_at" in refusal.detail
    late = driver.time_ms + 1
    driver.do(UpdateSession("s", ("status", "expires_at"), status=ACTIVE, expires_at=late))
    assert [session.session_id for _, session in sessions.due(driver.store, late)] == ["s"]


@pytest.mark.parametrize("status", ALL)
def test_which_statuses_take_events(status: str) -> None:
    driver = _driver_with(status)
    append = AppendEvents("s", (NewEvent("e", "custom.a"),))
    if status in (ACTIVE, PAUSED):
        assert driver.do(append).numbers == (1, 1)
        return
    refusal = driver.refused(append)
    assert refusal.code == "conflict"
    assert refusal.current is not None
    assert refusal.current["status"] == status


# --- expiry -------------------------------------------------------------------------------------------------


def test_expiry_is_checked_against_the_entrys_time() -> None:
    driver = Driver()
    driver.do(CreateSession("s", expires_at=START_MS + 1_000))
    driver.do(CreateSession("endless"))
    driver.time_ms = START_MS + 999
    (early, endless, unknown) = driver.outcome(frame(ExpireSessions(("s", "endless", "nobody")))).items
    assert (early.status, endless.status, unknown.status, driver.revision) == (0, 0, 0, 2)
    driver.time_ms = START_MS + 1_000
    applied = driver.entry(frame(ExpireSessions(("s", "endless"))))
    assert [item.status for item in applied.outcomes[0][0].items] == [200, 0]
    assert [change.data for change in applied.changes] == [{"from": ACTIVE, "to": EXPIRED}]
    assert _get(driver, "s").status == EXPIRED
    assert driver.outcome(frame(ExpireSessions(("s",)))).items[0].status == 0


def test_a_session_past_its_end_takes_no_events_even_before_the_leader_says_so() -> None:
    driver = Driver()
    driver.do(CreateSession("s", expires_at=START_MS + 1_000))
    driver.time_ms = START_MS + 1_000
    refusal = driver.refused(AppendEvents("s", (NewEvent("e", "custom.a"),)))
    assert (refusal.code, refusal.current) == ("conflict", {"status": EXPIRED, "last_seq": 0, "revision": 1})


def test_due_sessions_are_found_by_time_over_all_projects() -> None:
    driver = Driver()
    for number, project in enumerate(["default", "b", "c"]):
        driver.do(CreateSession(f"s{number}", expires_at=START_MS + 300 - 100 * number), project=project)
    driver.do(CreateSession("endless"))
    assert sessions.next_expiry_ms(driver.store) == START_MS + 100
    assert list(sessions.due(driver.store, START_MS + 99)) == []
    due = [(project_no, session.session_id) for project_no, session in sessions.due(driver.store, START_MS + 200)]
    assert due == [(3, "s2"), (2, "s1")]


def test_the_index_of_expiries_follows_the_session() -> None:
    driver = Driver()

    def indexed() -> list[int]:
        return [int.from_bytes(key[1:9], "big") - START_MS for key, _ in driver.store.scan(b"e", b"f")]

    driver.do(CreateSession("s", expires_at=START_MS + 100))
    assert indexed() == [100]
    driver.do(UpdateSession("s", ("expires_at",), expires_at=START_MS + 200))
    assert indexed() == [200]
    driver.do(UpdateSession("s", ("status",), status=PAUSED))
    assert indexed() == [200]
    driver.do(UpdateSession("s", ("status",), status=COMPLETED))
    assert indexed() == []
    driver.do(UpdateSession("s", ("status",), status=ACTIVE))
    assert indexed() == [200]
    driver.do(DeleteSession("s"))
    assert indexed() == []
    assert sessions.next_expiry_ms(driver.store) is None


def test_an_index_that_names_no_session_is_never_passed_over() -> None:
    driver = Driver()
    driver.do(CreateSession("s", expires_at=START_MS))
    driver.store.apply([(session_record.key_of(1, session.number), None) for session in [_get(driver, "s")]])
    with pytest.raises(AssertionError, match="does not exist"):
        list(sessions.due(driver.store, START_MS))


def test_an_expiry_command_is_bounded() -> None:
    driver = Driver()
    names = tuple(f"s{number}" for number in range(limits.SIDE_EFFECTS_MAX + 5))
    driver.entry(*[frame(CreateSession(name, expires_at=START_MS)) for name in names])
    outcome = driver.outcome(frame(ExpireSessions(names)))
    assert len(outcome.items) == limits.SIDE_EFFECTS_MAX
    assert len(list(sessions.due(driver.store, START_MS))) == 5


# --- deletion -----------------------------------------------------------------------------------------------


def _kept_events(driver: Driver) -> int:
    return sum(1 for _ in driver.store.scan(b"E", b"F"))


def test_deleting_a_short_session_leaves_only_its_last_seq_at_once() -> None:
    driver = Driver()
    driver.do(CreateSession("s"))
    driver.do(AppendEvents("s", tuple(NewEvent(f"e{i}", "custom.a") for i in range(limits.SIDE_EFFECTS_MAX))))
    applied = driver.entry(frame(DeleteSession("s")))
    assert [(change.type, change.revision) for change in applied.changes] == [("session.deleted", 3)]
    assert session_record.find(driver.store, 1, "s") is None
    assert _kept_events(driver) == 0
    assert not work.waiting(driver.store)
    assert {key[:1] for key, _ in driver.store.scan(b"\x00", b"\xff")} == {b"C", b"F", b"M", b"P", b"j", b"n", b"p"}


def test_deleting_a_long_session_goes_on_in_bounded_steps() -> None:
    driver = Driver()
    driver.do(CreateSession("s"))
    for _ in range(3):
        driver.do(AppendEvents("s", tuple(NewEvent(f"e{i}", "custom.a") for i in range(200))))
    driver.do(CreateSession("other"))
    driver.do(AppendEvents("other", (NewEvent("e", "custom.a"),)))
    driver.do(DeleteSession("s"))
    driver.do(CreateSession("s"))
    driver.do(AppendEvents("s", (NewEvent("new", "custom.a"),)))
    steps = [_kept_events(driver)]
    while work.waiting(driver.store):
        driver.do(DoWork())
        steps.append(_kept_events(driver))
    assert steps == [600 - 256 + 2, 600 - 512 + 2, 2]
    session = _get(driver, "s")
    assert [
        event.event.event_id for _, event in events.scan(driver.store, 1, session, events.EventFilter()) if event
    ] == ["new"]


# --- queries ------------------------------------------------------------------------------------------------


def _listed(driver: Driver, wanted: SessionFilter, after: int | None = None, ascending: bool = False) -> list[str]:
    rows = sessions.scan(driver.store, 1, wanted, after=after, ascending=ascending)
    return [session.session_id for _, session in rows if session is not None]


def test_lists_are_newest_first_and_go_on_behind_any_position() -> None:
    driver = Driver()
    names = [f"s{number}" for number in range(6)]
    driver.entry(*[frame(CreateSession(name)) for name in names])
    driver.do(CreateSession("elsewhere"), project="other")
    assert _listed(driver, SessionFilter()) == names[::-1]
    assert _listed(driver, SessionFilter(), ascending=True) == names
    for ascending in (False, True):
        whole = _listed(driver, SessionFilter(), ascending=ascending)
        positions = [position for position, _ in sessions.scan(driver.store, 1, SessionFilter(), ascending=ascending)]
        for count, position in enumerate(positions, 1):
            assert _listed(driver, SessionFilter(), position, ascending) == whole[count:]


def test_a_list_does_not_repeat_or_lose_what_is_there_throughout() -> None:
    driver = Driver()
    driver.entry(*[frame(CreateSession(f"s{number}")) for number in range(4)])
    rows = sessions.scan(driver.store.snapshot(), 1, SessionFilter())
    first, second = next(rows), next(rows)
    assert first[1] is not None
    assert second[1] is not None
    assert (first[1].session_id, second[1].session_id) == ("s3", "s2")
    driver.do(CreateSession("fresh"))
    driver.do(DeleteSession("s2"))
    driver.do(UpdateSession("s0", ("title",), title="touched"))
    assert _listed(driver, SessionFilter(), after=second[0]) == ["s1", "s0"]


def test_filters_hold_together_and_what_is_passed_over_still_has_a_position() -> None:
    driver = Driver()
    driver.do(CreateSession("a", agent_id="a1", user="ann"))
    driver.do(CreateSession("b", agent_id="a2", user="ann"))
    driver.time_ms += 100
    driver.do(CreateSession("c", agent_id="a1", user="bob"))
    driver.do(UpdateSession("b", ("status",), status=PAUSED))
    assert _listed(driver, SessionFilter(agent_ids=("a1",))) == ["c", "a"]
    assert _listed(driver, SessionFilter(users=("ann", "eve"))) == ["b", "a"]
    assert _listed(driver, SessionFilter(statuses=(PAUSED, EXPIRED))) == ["b"]
    assert _listed(driver, SessionFilter(agent_ids=("a1",), users=("ann",))) == ["a"]
    assert _listed(driver, SessionFilter(updated_since=START_MS + 100)) == ["c", "b"]
    assert len(list(sessions.scan(driver.store, 1, SessionFilter(users=("nobody",))))) == 3


def test_no_defect_was_met_by_any_of_this() -> None:
    driver = _driver_with(EXPIRED)
    assert machine.read_meta(driver.store).internal_errors == 0
