"""Idempotency-Keys: one run for each, its answer for every repeat, and an honest refusal when that is not
known any more."""

from __future__ import annotations

import pytest

from statemachine import idempotency, limits, machine, projects
from statemachine.commands import AppendEvents, Command, CreateSession, DeleteSession, DrainAgent, NewEvent
from statemachine.context import Context
from statemachine.entry import Fence, Idempotency
from statemachine.outcome import Outcome, Refused
from tests.statemachine.driver import START_MS, Driver, frame, key

EVENT = (NewEvent("e", "custom.a"),)
HOUR_MS = 3_600_000


def _append(driver: Driver, idempotency_key: Idempotency | None, project: str = "default") -> Outcome:
    return driver.outcome(frame(AppendEvents("s", EVENT), idempotency=idempotency_key, project=project))


def _driver() -> Driver:
    driver = Driver()
    driver.do(CreateSession("s"))
    return driver


def _code(outcome: Outcome) -> str | None:
    return None if outcome.refusal is None else outcome.refusal.code


def _bookkeeping(driver: Driver) -> tuple[int, int, int]:
    """(records, kept ones, rows of both tables): the first must be half of the third."""
    project = projects.find(driver.store, "default")
    assert project is not None
    rows = sum(1 for table in (b"I", b"x") for _ in driver.store.scan(table, bytes([table[0] + 1])))
    return project.idempotency_records, project.idempotency_kept, rows


@pytest.mark.parametrize("uuid7_ms", [0, START_MS])
def test_a_repeat_gets_the_first_answer_and_does_nothing(uuid7_ms: int) -> None:
    driver = _driver()
    first = _append(driver, key("k", uuid7_ms=uuid7_ms))
    _append(driver, None)
    again = _append(driver, key("k", uuid7_ms=uuid7_ms))
    assert (first.replayed, again.replayed) == (False, True)
    assert again.items == first.items
    assert again.items[0].numbers == (1, 1)
    assert (again.revision, driver.revision) == (2, 3)
    assert _bookkeeping(driver) == (1, 0 if uuid7_ms else 1, 2)


def test_a_repeat_in_the_same_entry_is_a_repeat() -> None:
    driver = _driver()
    one = frame(AppendEvents("s", EVENT), idempotency=key("k"))
    first, again = driver.entry(one, one).outcomes[0]
    assert (first.replayed, again.replayed) == (False, True)
    assert driver.revision == 2


def test_another_request_under_the_same_key_is_refused_and_the_first_answer_kept() -> None:
    driver = _driver()
    _append(driver, key("k"))
    assert _code(_append(driver, key("k", digest="other"))) == "idempotency_key_reused"
    assert _append(driver, key("k")).replayed


def test_keys_of_two_projects_have_nothing_to_do_with_each_other() -> None:
    driver = _driver()
    driver.do(CreateSession("s"), project="other")
    assert not _append(driver, key("k")).replayed
    assert not _append(driver, key("k"), "other").replayed


def test_a_refusal_is_remembered() -> None:
    driver = Driver()
    assert _code(_append(driver, key("k"))) == "not_found"
    driver.do(CreateSession("s"))
    again = _append(driver, key("k"))
    assert (_code(again), again.replayed) == ("not_found", True)
    assert _bookkeeping(driver) == (1, 1, 2)


def test_a_refusal_by_a_fence_is_remembered_and_a_repeat_is_not_fenced_again() -> None:
    driver = _driver()
    fenced = frame(AppendEvents("s", EVENT), idempotency=key("k"), fence=Fence("task", "nobody", 1))
    first, again = driver.outcome(fenced), driver.outcome(fenced)
    assert _code(first) == _code(again) is not None
    assert again.replayed


@pytest.mark.parametrize("code", sorted(idempotency.NOT_REMEMBERED))
def test_refusals_to_try_again_are_not_remembered(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(_: Context, __: Command) -> Outcome:
        raise Refused(code, "for now")

    driver = _driver()
    with monkeypatch.context() as patch:
        handlers: dict[type[Command], machine.Handler] = {**machine.HANDLERS, AppendEvents: refusing}
        patch.setattr(machine, "HANDLERS", handlers)
        assert _code(_append(driver, key("k"))) == code
    assert _append(driver, key("k")).items[0].status == 201


def test_a_key_without_a_project_is_refused_rather_than_ignored() -> None:
    driver = Driver()
    drain = frame(DrainAgent("a", draining=True), project="nowhere", idempotency=key("k"))
    assert _code(driver.outcome(drain)) == "unknown_project"


@pytest.mark.parametrize(("ttl_ms", "kept_ms"), [(1_000, 1_000), (48 * HOUR_MS, 24 * HOUR_MS)])
def test_records_live_for_their_time_and_a_day_at_most(ttl_ms: int, kept_ms: int) -> None:
    driver = _driver()
    _append(driver, key("k", ttl_ms=ttl_ms))
    driver.time_ms = START_MS + kept_ms - 1
    assert _append(driver, key("k", ttl_ms=ttl_ms)).replayed
    driver.time_ms = START_MS + kept_ms
    assert not _append(driver, key("k", ttl_ms=ttl_ms)).replayed
    assert _bookkeeping(driver) == (1, 1, 2)


def test_expired_records_go_two_of_each_class_a_command() -> None:
    driver = _driver()
    for number in range(5):
        _append(driver, key(f"k{number}", ttl_ms=1_000))
        _append(driver, key(f"u{number}", ttl_ms=1_000, uuid7_ms=START_MS))
    assert _bookkeeping(driver) == (10, 5, 20)
    driver.time_ms += 1_001
    _append(driver, None)
    assert _bookkeeping(driver) == (6, 3, 12)
    driver.entry(frame(DeleteSession("x")), frame(AppendEvents("s", EVENT)))
    assert _bookkeeping(driver) == (0, 0, 0)


def test_only_expired_records_go() -> None:
    driver = _driver()
    _append(driver, key("short", ttl_ms=1_000))
    _append(driver, key("long", ttl_ms=2_000))
    driver.time_ms += 1_500
    for _ in range(3):
        _append(driver, None)
    assert _append(driver, key("long")).replayed


def test_under_the_limit_the_oldest_uuid7_keys_go_and_are_refused_ever_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "IDEMPOTENCY_RECORDS_MAX", 3)
    driver = _driver()
    for number in range(5):
        driver.time_ms += 10
        assert _append(driver, key(f"u{number}", uuid7_ms=driver.time_ms)).items[0].status == 201
    for gone in (0, 1):
        late = _append(driver, key(f"u{gone}", uuid7_ms=START_MS + 10 * (gone + 1)))
        assert _code(late) == "idempotency_key_expired"
    for kept in (2, 3, 4):
        assert _append(driver, key(f"u{kept}", uuid7_ms=START_MS + 10 * (kept + 1))).replayed
    assert _bookkeeping(driver) == (3, 0, 6)
    project = projects.find(driver.store, "default")
    assert project is not None
    assert project.idempotency_horizon_ms == START_MS + 20
    assert idempotency.oldest_ms(driver.store, 1) == START_MS + 30


def test_other_keys_are_never_dropped_early_and_new_ones_refused_at_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "IDEMPOTENCY_RECORDS_MAX", 2)
    driver = _driver()
    assert _append(driver, key("u", uuid7_ms=START_MS)).items[0].status == 201
    for name in ("a", "b"):
        assert _append(driver, key(name)).items[0].status == 201, "makes room by dropping a UUIDv7 key"
    assert _code(_append(driver, key("c"))) == "queue_full"
    assert driver.revision == 4
    assert _append(driver, key("a")).replayed
    assert _code(_append(driver, key("u", uuid7_ms=START_MS))) == "idempotency_key_expired"
    fresh = key("new", uuid7_ms=START_MS + 1)
    assert _append(driver, fresh).items[0].status == 201
    assert _code(_append(driver, fresh)) == "idempotency_key_expired", "no room to remember it, so never a second run"
    assert _bookkeeping(driver) == (2, 2, 4)


def test_a_uuid7_from_the_far_future_does_not_poison_the_horizon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDEMPOTENCY_RECORDS_MAX", 2)
    driver = _driver()
    ahead = START_MS + limits.IDEMPOTENCY_UUID7_AHEAD_MS_MAX + 1
    wrong_clock = key("far", uuid7_ms=ahead)
    assert _append(driver, wrong_clock).items[0].status == 201
    for number in range(3):
        assert _append(driver, key(f"u{number}", uuid7_ms=START_MS + number)).items[0].status == 201
    assert _append(driver, wrong_clock).replayed, "kept like any other key"
    project = projects.find(driver.store, "default")
    assert project is not None
    assert project.idempotency_horizon_ms == START_MS + 1


def test_an_index_that_names_no_record_is_never_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _driver()
    _append(driver, key("u", uuid7_ms=START_MS, ttl_ms=1_000))
    ((record, _),) = driver.store.scan(b"I", b"J")
    driver.store.apply([(record, None)])
    with pytest.raises(AssertionError, match="without its record"):
        idempotency.oldest_ms(driver.store, 1)
    driver.time_ms += 2_000
    with pytest.raises(AssertionError, match="without its record"):
        _append(driver, None)


def test_oldest_of_both_classes() -> None:
    driver = _driver()
    assert idempotency.oldest_ms(driver.store, 1) is None
    _append(driver, key("u", uuid7_ms=START_MS))
    driver.time_ms += 5
    _append(driver, key("k"))
    assert idempotency.oldest_ms(driver.store, 1) == START_MS
