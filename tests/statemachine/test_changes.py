"""The change feed: contiguous, resumable, bounded."""

from __future__ import annotations

import pytest

from statemachine import changes, limits, machine
from statemachine.changes import Change
from statemachine.commands import AppendEvents, CreateSession, DeleteSession, NewEvent
from tests.statemachine.driver import Driver, frame


def _history(driver: Driver, entries: int) -> list[Change]:
    """Entries of one to four commands, some refused, some entries without any change -> all changes in
    order."""
    seen: list[Change] = []
    for number in range(entries):
        driver.time_ms += 1
        frames = [frame(CreateSession(f"s{number}-{i}")) for i in range(number % 4)]
        frames.append(frame(DeleteSession("nobody")))
        frames.append(frame(AppendEvents(f"s{number}-0", (NewEvent("e", "custom.a"),))))
        seen.extend(driver.entry(*frames).changes)
    return seen


def test_groups_follow_each_other_without_gap_and_hold_every_change_once() -> None:
    driver = Driver()
    told = _history(driver, 12)
    groups = list(changes.read(driver.store, 1))
    expected_first = 1
    for last, group in groups:
        assert group.first_revision == expected_first
        assert all(group.first_revision <= change.revision <= last for change in group.changes)
        expected_first = last + 1
    assert expected_first == driver.revision + 1
    assert [change for _, group in groups for change in group.changes] == told
    revisions = [change.revision for change in told]
    assert revisions == sorted(revisions)
    assert set(revisions) == set(range(1, driver.revision + 1))


def test_entries_without_a_revision_write_no_group() -> None:
    driver = Driver()
    driver.entry(frame(DeleteSession("nobody")))
    driver.entry()
    assert list(changes.read(driver.store, 0)) == []


def test_reading_from_any_revision_begins_with_the_group_that_covers_it() -> None:
    driver = Driver()
    told = _history(driver, 8)
    for wanted in range(1, driver.revision + 2):
        later = [
            change
            for _, group in changes.read(driver.store, wanted)
            for change in group.changes
            if change.revision >= wanted
        ]
        assert later == [change for change in told if change.revision >= wanted]


def test_group_time_is_the_time_of_its_entry() -> None:
    driver = Driver()
    driver.time_ms += 77
    driver.entry(frame(CreateSession("s")))
    ((_, group),) = changes.read(driver.store, 1)
    assert group.time_ms == driver.time_ms


def test_the_feed_is_bounded_and_says_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHANGES_KEPT_MAX", 10)
    driver = Driver()
    _history(driver, 40)
    meta = machine.read_meta(driver.store)
    groups = list(changes.read(driver.store, 0))
    assert groups[0][1].first_revision == meta.compacted_revision + 1
    assert groups[-1][0] == meta.revision
    assert sum(last - group.first_revision + 1 for last, group in groups) == meta.feed_revisions <= 10
    assert len(groups) == meta.feed_groups


def test_a_feed_that_is_far_too_long_is_compacted_a_few_groups_an_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = Driver()
    for number in range(20):
        driver.entry(frame(CreateSession(f"s{number}")))
    monkeypatch.setattr(limits, "CHANGES_KEPT_MAX", 2)
    monkeypatch.setattr(limits, "CHANGES_PURGED_PER_ENTRY", 3)
    driver.entry(frame(CreateSession("more")))
    meta = machine.read_meta(driver.store)
    assert (meta.compacted_revision, meta.feed_groups, meta.feed_revisions) == (3, 18, 18)


def test_what_is_kept_reads_back_with_every_field() -> None:
    driver = Driver()
    driver.do(CreateSession("s", agent_id="a1", user="ann"))
    (told,) = driver.entry(frame(AppendEvents("s", (NewEvent("e", "custom.a", correlation_id="c1"),)))).changes
    *_, (_, group) = changes.read(driver.store, 1)
    assert group.changes == (told,)
    assert told == Change(
        2,
        "event.appended",
        "default",
        "session",
        "s",
        "user:ann",
        "c1",
        ("agent.a1", "user.ann"),
        {"first_seq": 1, "last_seq": 1, "types": ["custom.a"]},
    )
