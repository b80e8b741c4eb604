"""A session that is made under the id of a removed one: nothing that was said of the former fits it."""

from __future__ import annotations

import pytest

from statemachine import events, former_sessions, limits, machine, session_record
from statemachine.commands import AppendEvents, CreateSession, DeleteSession, DoWork, NewEvent
from statemachine.session_record import Session
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    return Harness()


def append(h: Harness, count: int, expected_seq: int | None = None, session_id: str = "s") -> tuple[int, ...]:
    new = tuple(NewEvent(f"{h.entries}-{number}", "custom.a") for number in range(count))
    return h.item(AppendEvents(session_id, new, expected_seq)).numbers


def of(h: Harness, session_id: str = "s") -> Session:
    session = session_record.find(h.store, 1, session_id)
    assert session is not None
    return session


def seqs(h: Harness) -> list[int]:
    return [seq for seq, _ in events.scan(h.store, 1, of(h), events.EventFilter())]


def remove(h: Harness, session_id: str = "s") -> None:
    h.item(DeleteSession(session_id))
    assert session_record.find(h.store, 1, session_id) is None


def test_it_goes_on_counting_so_an_old_expectation_fits_nothing(h: Harness) -> None:
    h.item(CreateSession("s"))
    append(h, 3)
    remove(h)
    h.item(CreateSession("s"))
    assert of(h).last_seq == 3
    assert append(h, 2, expected_seq=3) == (4, 5)
    for old in range(4):
        late = AppendEvents("s", (NewEvent("late", "custom.a"),), old)
        assert h.refusal(late).current == {"last_seq": 5}, "whoever saw the former session is told"
    assert seqs(h) == [4, 5]
    assert of(h).stats.events == 2
    h.check()


def test_it_may_happen_again_and_again(h: Harness) -> None:
    for round_ in range(3):
        h.item(CreateSession("s"))
        assert append(h, 2) == (2 * round_ + 1, 2 * round_ + 2)
        remove(h)
        h.check()
    h.item(CreateSession("s"))
    remove(h)
    h.item(CreateSession("s"))
    assert of(h).last_seq == 6, "also over one in which nothing happened"
    assert events.seq_at(h.store, 1, of(h), h.time_ms) == 7
    h.check()


def test_a_long_one_is_removed_to_its_end_and_no_further(h: Harness) -> None:
    h.item(CreateSession("s"))
    append(h, 3)
    remove(h)
    h.item(CreateSession("s"))
    append(h, limits.SIDE_EFFECTS_MAX + 5)
    remove(h)
    h.item(CreateSession("s"))
    assert append(h, 1) == (limits.SIDE_EFFECTS_MAX + 9, limits.SIDE_EFFECTS_MAX + 9)
    h.do(DoWork())
    assert sum(key[:1] == b"E" for key in h.content()) == 1
    h.check()


def test_one_without_events_leaves_nothing_behind(h: Harness) -> None:
    h.item(CreateSession("s"))
    remove(h)
    assert [key for key in h.content() if key[:1] in b"jF"] == []


def test_projects_are_apart(h: Harness) -> None:
    h.item(CreateSession("s"))
    append(h, 2)
    remove(h)
    h.item(CreateSession("s"), project="other")
    other = session_record.find(h.store, 2, "s")
    assert other is not None
    assert other.last_seq == 0
    h.check()


def test_they_are_forgotten_by_time_and_by_number(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(session_id: str) -> None:
        h.item(CreateSession(session_id))
        append(h, 1, session_id=session_id)
        remove(h, session_id)

    def former() -> list[bytes]:
        return [id_key[5:-1] for _, id_key in former_sessions.scan(h.store)]

    for number in range(3):
        end(f"s{number}")
        h.advance(1)
    assert former() == [b"s0", b"s1", b"s2"]
    h.advance(limits.FORMER_ID_KEPT_MS - 3)
    end("s3")
    assert former() == [b"s1", b"s2", b"s3"]
    monkeypatch.setattr(limits, "FORMER_IDS_MAX", 2)
    end("s4")
    assert former() == [b"s3", b"s4"], "each removal forgets more than it adds"
    assert machine.read_meta(h.store).former_sessions == 2
    h.item(CreateSession("s1"))
    assert of(h, "s1").last_seq == 0
    h.check()
