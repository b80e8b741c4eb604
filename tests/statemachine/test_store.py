"""The overlay against a plain dictionary, whatever is written, merged, thrown away and scanned in whatever
order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine.store import MemoryStore, Overlay

KEYS = st.binary(min_size=1, max_size=3).map(lambda tail: b"K" + tail) | st.sampled_from([b"A", b"Ab", b"Z\xff"])
WRITES = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=2)), max_size=12)
TABLES = (b"A", b"K", b"Z")


def _write(overlay: Overlay, writes: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in writes:
        if value is None:
            overlay.delete(key)
        else:
            overlay.put(key, value)


def _model(*layers: list[tuple[bytes, bytes | None]]) -> dict[bytes, bytes]:
    model: dict[bytes, bytes] = {}
    for layer in layers:
        for key, value in layer:
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
    return model


def _assert_shows(overlay: Overlay, model: dict[bytes, bytes], keys: list[bytes]) -> None:
    for key in keys:
        assert overlay.get(key) == model.get(key)
    for table in TABLES:
        expected = sorted(item for item in model.items() if item[0][:1] == table)
        end = bytes([table[0] + 1])
        assert list(overlay.scan(table, end)) == expected
        assert list(overlay.scan(table, end, reverse=True)) == expected[::-1]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(below=WRITES, middle=WRITES, upper=WRITES, keys=st.lists(KEYS, max_size=6))
def test_overlays_show_what_a_dictionary_would(
    below: list[tuple[bytes, bytes | None]],
    middle: list[tuple[bytes, bytes | None]],
    upper: list[tuple[bytes, bytes | None]],
    keys: list[bytes],
) -> None:
    store = MemoryStore(_model(below))
    entry = Overlay(store)
    _write(entry, middle)
    command = Overlay(entry)
    _write(command, upper)
    _assert_shows(command, _model(below, middle, upper), keys)
    _assert_shows(entry, _model(below, middle), keys)

    entry.merge(command)
    _assert_shows(entry, _model(below, middle, upper), keys)
    written = entry.writes()
    assert written == sorted(written)
    store.apply(written)
    assert dict(store.scan(b"\x00", b"\xff")) == _model(below, middle, upper)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(below=WRITES, upper=WRITES, first=KEYS, last=KEYS, descending=st.booleans())
def test_a_scan_of_a_range_holds_its_start_and_not_its_end(
    below: list[tuple[bytes, bytes | None]],
    upper: list[tuple[bytes, bytes | None]],
    first: bytes,
    last: bytes,
    descending: bool,
) -> None:
    start, end = b"K" + min(first, last), b"K" + max(first, last)
    overlay = Overlay(MemoryStore(_model(below)))
    _write(overlay, upper)
    expected = sorted(item for item in _model(below, upper).items() if start <= item[0] < end)
    got = list(overlay.scan(start, end, reverse=descending))
    assert got == (expected[::-1] if descending else expected)


def test_writes_come_in_key_order_whatever_order_they_were_made_in() -> None:
    forth, back = Overlay(MemoryStore()), Overlay(MemoryStore())
    keys = [b"Z1", b"A1", b"K2", b"K1"]
    _write(forth, [(key, b"v") for key in keys])
    _write(back, [(key, b"v") for key in reversed(keys)])
    assert forth.writes() == back.writes() == [(key, b"v") for key in sorted(keys)]


def test_a_thrown_away_overlay_leaves_nothing() -> None:
    entry = Overlay(MemoryStore({b"K1": b"old"}))
    command = Overlay(entry)
    command.put(b"K1", b"new")
    command.delete(b"K2")
    assert len(command.writes()) == 2
    command.clear()
    assert command.writes() == []
    assert command.get(b"K1") == b"old"
    assert entry.empty


def test_what_is_deleted_during_a_scan_of_an_overlay_does_not_disturb_it() -> None:
    overlay = Overlay(MemoryStore({b"K" + bytes([number]): b"" for number in range(10)}))
    overlay.put(b"K\x03x", b"")
    seen = []
    for key, _ in overlay.scan(b"K", b"L"):
        seen.append(key)
        overlay.delete(key)
    assert len(seen) == 11
    assert list(overlay.scan(b"K", b"L")) == []


def test_a_scan_over_two_tables_is_a_defect() -> None:
    with pytest.raises(AssertionError, match="one table"):
        Overlay(MemoryStore()).scan(b"A", b"K")


def test_a_snapshot_is_not_touched_by_later_writes() -> None:
    store = MemoryStore({b"K1": b"a"})
    copy = store.snapshot()
    store.apply([(b"K1", b"b"), (b"K2", b"c")])
    assert list(copy.scan(b"K", b"L")) == [(b"K1", b"a")]
    assert len(store) == 2
    store.apply([(b"K1", None), (b"K9", None)])
    assert list(store.scan(b"K", b"L")) == [(b"K2", b"c")]
