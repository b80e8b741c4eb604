"""The overlay against a plain dictionary, whatever is written, taken back, kept as records and scanned in whatever
order."""

from __future__ import annotations

import msgspec
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


class Pair(msgspec.Struct, array_like=True):
    """A record with something in it that a shallow copy would share."""

    number: int
    numbers: list[int]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Pair).decode
RECORD_KEYS = st.sampled_from([b"K1", b"K2", b"Kz"])
STEPS = st.lists(
    st.tuples(KEYS, st.none() | st.binary(max_size=2))
    | st.tuples(RECORD_KEYS, st.integers(0, 200) | st.none())
    | st.sampled_from(["begin", "mark", "undo", "undo_all"]),
    max_size=20,
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(below=WRITES, records=st.lists(RECORD_KEYS), steps=STEPS, keys=st.lists(KEYS, max_size=6))
def test_an_overlay_shows_what_a_dictionary_would(
    below: list[tuple[bytes, bytes | None]],
    records: list[bytes],
    steps: list[tuple[bytes, bytes | int | None] | str],
    keys: list[bytes],
) -> None:
    """An integer is added to the record under a key, in place; records and plain bytes do not share keys."""
    store = MemoryStore(_model([item for item in below if item[0] not in (b"K1", b"K2", b"Kz")]))
    store.apply([(key, _encode(Pair(1, [1]))) for key in records])
    overlay = Overlay(store)
    model = dict(store.scan(b"\x00", b"\xff"))
    begun, marks = dict(model), [(0, dict(model))]
    for step in steps:
        if step == "begin":
            overlay.begin()
            begun, marks = dict(model), [(0, dict(model))]
        elif step == "mark":
            marks.append((overlay.mark(), dict(model)))
        elif step == "undo":
            mark, kept = marks.pop() if len(marks) > 1 else marks[0]
            overlay.undo(mark)
            model = dict(kept)
        elif step == "undo_all":
            overlay.undo()
            model, marks = dict(begun), [(0, dict(begun))]
        elif isinstance(step, tuple):
            _step(overlay, model, *step)
        _assert_shows(overlay, model, [*keys, b"K1", b"K2", b"Kz"])
    written = overlay.writes()
    assert written == sorted(written)
    _assert_shows(overlay, model, keys)
    store.apply(written)
    assert dict(store.scan(b"\x00", b"\xff")) == model


def _step(overlay: Overlay, model: dict[bytes, bytes], key: bytes, value: bytes | int | None) -> None:
    if isinstance(value, int):
        expected = _decode(model[key]) if key in model else Pair(0, [])
        assert (overlay.look(key, _decode) or Pair(0, [])) == expected
        record = overlay.own(key, _decode)
        assert (record is None) == (key not in model)
        if record is None:
            record = Pair(0, [])
            overlay.put_record(key, record)
        for pair in (record, expected):
            pair.number += value
            pair.numbers.append(value)
        model[key] = _encode(expected)
    elif value is None:
        overlay.delete(key)
        model.pop(key, None)
    elif key not in (b"K1", b"K2", b"Kz"):
        overlay.put(key, value)
        model[key] = value


def test_a_record_is_put_as_bytes_and_owned_again() -> None:
    overlay = Overlay(MemoryStore())
    overlay.put_record(b"K1", Pair(1, []))
    overlay.put(b"K1", _encode(Pair(2, [])))
    record = overlay.own(b"K1", _decode)
    assert record == Pair(2, [])
    record.number = 3
    assert overlay.writes() == [(b"K1", _encode(Pair(3, [])))]


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


def test_a_record_goes_back_to_each_mark() -> None:
    store = MemoryStore({b"K1": _encode(Pair(0, []))})
    overlay = Overlay(store)

    def add(number: int) -> None:
        record = overlay.own(b"K1", _decode)
        assert record is not None
        record.numbers.append(number)

    add(1)
    first = overlay.mark()
    add(2)
    second = overlay.mark()
    add(3)
    add(4)
    overlay.delete(b"K1")
    overlay.undo(second)
    assert overlay.look(b"K1", _decode) == Pair(0, [1, 2])
    add(5)
    overlay.undo(first)
    assert overlay.look(b"K1", _decode) == Pair(0, [1])
    overlay.begin()
    add(6)
    overlay.undo()
    assert overlay.writes() == [(b"K1", _encode(Pair(0, [1])))]


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
