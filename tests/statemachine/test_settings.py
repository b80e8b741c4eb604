"""Replicated settings: what can be set, who hears of it, and what holds where nothing was."""

from __future__ import annotations

import msgspec
import pytest

from statemachine import settings
from statemachine.audit import audit
from statemachine.commands import UpdateSettings
from statemachine.settings import SETTINGS
from tests.statemachine.harness import Harness

LOAD = "placement.weight.load"


@pytest.fixture
def h() -> Harness:
    return Harness()


def update(h: Harness, **values: int | None) -> None:
    h.item(UpdateSettings(tuple(values.items())))


def test_what_is_set_holds_until_it_is_reset(h: Harness) -> None:
    assert settings.read(h.store).revision == 0
    update(h, avoid_ms=5_000, **{LOAD: 9_000})
    (change,) = h.changes
    assert (change.type, change.resource, change.project) == ("settings.updated", "settings", "")
    assert change.data == {"fields": ["avoid_ms", LOAD]}
    now = settings.read(h.store)
    assert (now.values, now.revision, now.updated_at) == ({"avoid_ms": 5_000, LOAD: 9_000}, change.revision, h.time_ms)
    update(h, avoid_ms=None, provider_cooling_ms=0)
    assert settings.read(h.store).values == {LOAD: 9_000, "provider_cooling_ms": 0}
    assert h.changes[0].data == {"fields": ["avoid_ms", "provider_cooling_ms"]}
    h.check()


def test_the_same_again_changes_nothing(h: Harness) -> None:
    update(h, avoid_ms=5_000)
    before = settings.read(h.store)
    update(h, avoid_ms=5_000, offer_timeout_ms=None)
    assert (settings.read(h.store), h.changes) == (before, ())


def test_only_the_expected_revision_is_changed(h: Harness) -> None:
    h.item(UpdateSettings((("avoid_ms", 1),), if_revision=0))
    now = settings.read(h.store).revision
    refusal = h.refusal(UpdateSettings((("avoid_ms", 2),), if_revision=0))
    assert (refusal.code, refusal.current) == ("conflict", {"revision": now})
    h.item(UpdateSettings((("avoid_ms", 2),), if_revision=now))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_a_range_that_its_default_is_in(h: Harness, name: str) -> None:
    known = SETTINGS[name]
    assert known.least <= known.default <= known.most
    for value in (known.least, known.most):
        update(h, **{name: value})
        h.check()
    for value in (known.least - 1, known.most + 1):
        assert h.refusal(UpdateSettings((("avoid_ms", 7), (name, value)))).code == "invalid_request"


def test_what_is_unknown_is_refused_and_what_a_later_version_set_is_left_alone(h: Harness) -> None:
    assert h.refusal(UpdateSettings((("no.such", 1),))).code == "invalid_request"
    h.store.apply([(settings.KEY, msgspec.msgpack.encode([{"of.later": 5}, 1, 1]))])
    update(h, avoid_ms=1)
    assert settings.read(h.store).values == {"of.later": 5, "avoid_ms": 1}
    h.check()


def test_impossible_settings_are_found(h: Harness) -> None:
    for rows in ([{LOAD: 10_001}, 1, 1], [{LOAD: 1}, 0, 1]):
        h.store.apply([(settings.KEY, msgspec.msgpack.encode(rows))])
        assert audit(h.store) != []
    h.store.apply([(settings.KEY, None), (b"Sother", b"")])
    assert audit(h.store) != []
