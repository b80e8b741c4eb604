"""The entry format: what was written is read back, and nothing else is taken for an entry."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import entry, limits
from statemachine.commands import AppendEvents, CreateProject, CreateSession, NewEvent, decode
from statemachine.entry import Batch, Fence, Frame, Header, MalformedEntryError
from tests.statemachine.driver import frame, key

FRAMES = [
    frame(CreateSession("s1", title="a title", metadata=b'{"a": 1}'), idempotency=key("k")),
    frame(AppendEvents("s1", (NewEvent("e1", "custom.a", b"[]"),)), fence=Fence("task", "t1", 3)),
]
HEADER = Header(1_700_000_000_123, 9)


def _batch(run: int, sequence: int, frames: list[Frame]) -> bytes:
    return entry.encode_batch(run, sequence, [entry.encode_frame(one) for one in frames])


def _example() -> bytes:
    return entry.encode_entry(HEADER, [_batch(2**64 - 1, 1, FRAMES), _batch(5, 0, [])])


def test_an_entry_is_read_back_as_it_was_written() -> None:
    header, batches = entry.decode_entry(_example())
    assert header == HEADER == entry.decode_header(_example())
    assert [(batch.proposer_run, batch.sequence) for batch in batches] == [(2**64 - 1, 1), (5, 0)]
    first, second = batches[0].frames
    assert [first.idempotency, second.fence] == [FRAMES[0].idempotency, FRAMES[1].fence]
    assert decode(first.number, first.payload) == CreateSession("s1", title="a title", metadata=b'{"a": 1}')
    assert batches[1].frames == ()


def test_the_bytes_of_an_entry_are_fixed() -> None:
    """Logs of old versions must be read for ever: this text may only be joined by those of new formats."""
    plain = Frame(1, 1, "p", "u", "r", None, None, 0, 0, msgspec.Raw(b"\x90"))
    bytes_of_entry = entry.encode_entry(Header(258, 3), [_batch(4, 5, [plain])])
    assert bytes_of_entry.hex(" ", 1) == (
        "01 00 01 00 00 00 00 00 00 01 02 00 00 00 00 00 00 00 03 00 00 00 01 "
        "00 00 00 00 00 00 00 04 00 00 00 00 00 00 00 05 00 00 00 01 00 00 00 0f "
        "91 9a 01 01 a1 70 a1 75 a1 72 c0 c0 00 00 90"
    )


@pytest.mark.parametrize("count", [0, 1, 15, 16, 1_000, 65_535, 65_536])
def test_batches_of_any_number_of_frames(count: int) -> None:
    plain = frame(CreateProject())
    batch = entry.encode_batch(1, 2, [entry.encode_frame(plain)] * count)
    assert entry.batch_identity(batch) == (1, 2)
    _, (decoded,) = entry.decode_entry(entry.encode_entry(HEADER, [batch]))
    assert len(decoded.frames) == count


def test_an_entry_cut_anywhere_is_refused() -> None:
    whole = _example()
    for length in range(len(whole)):
        with pytest.raises(MalformedEntryError):
            entry.decode_entry(whole[:length])


def test_an_entry_with_bytes_behind_it_is_refused() -> None:
    with pytest.raises(MalformedEntryError, match="1 bytes after"):
        entry.decode_entry(_example() + b"\0")


def test_an_entry_of_another_format_is_refused_with_what_to_do() -> None:
    with pytest.raises(MalformedEntryError, match="upgrade"):
        entry.decode_header(b"\x02" + _example()[1:])


@settings(derandomize=True, deadline=None, max_examples=500)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_never_does_worse_than_malformed(position: int, value: int) -> None:
    damaged = bytearray(_example())
    damaged[position % len(damaged)] = value
    try:
        _, batches = entry.decode_entry(bytes(damaged))
    except MalformedEntryError:
        return
    assert all(isinstance(batch, Batch) for batch in batches)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=80))
def test_anything_at_all_can_be_checked_as_a_batch(data: bytes) -> None:
    wrong = entry.check_batch(data)
    if wrong is None:
        header, _ = entry.decode_entry(entry.encode_entry(HEADER, [data]))
        assert header == HEADER


def test_check_batch_lets_good_ones_through_and_no_cut_one() -> None:
    good = _batch(1, 2, FRAMES)
    assert entry.check_batch(good) is None
    for length in range(len(good)):
        assert entry.check_batch(good[:length]) is not None
    assert entry.check_batch(good + b"\0") == "trailing bytes after the batch"


def test_check_batch_refuses_a_wrong_count() -> None:
    good = bytearray(_batch(1, 2, FRAMES))
    good[19] += 1
    assert "2 frames where 3 were announced" in str(entry.check_batch(bytes(good)))


@pytest.mark.parametrize(("number", "version"), [(250, 1), (1, 2), (0, 1), (-1, 1)])
def test_check_batch_refuses_commands_that_would_stop_every_node(number: int, version: int) -> None:
    unknown = msgspec.structs.replace(FRAMES[0], number=number, version=version)
    assert "unknown here" in str(entry.check_batch(_batch(1, 2, [FRAMES[0], unknown])))


def test_check_batch_refuses_too_many_commands_and_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = frame(CreateProject())
    monkeypatch.setattr(limits, "ENTRY_COMMANDS_MAX", 3)
    assert entry.check_batch(_batch(1, 2, [plain] * 3)) is None
    assert "over 3" in str(entry.check_batch(_batch(1, 2, [plain] * 4)))
    size = len(_batch(1, 2, [plain]))
    monkeypatch.setattr(limits, "ENTRY_BYTES_MAX", size)
    assert entry.check_batch(_batch(1, 2, [plain])) is None
    monkeypatch.setattr(limits, "ENTRY_BYTES_MAX", size - 1)
    assert "bytes is over" in str(entry.check_batch(_batch(1, 2, [plain])))


def test_check_batch_survives_nesting_without_end() -> None:
    deep = Frame(1, 1, "p", "u", "r", None, None, 0, 0, msgspec.Raw(b"\x91" * 1_000_000 + b"\x90"))
    assert "malformed" in str(entry.check_batch(_batch(1, 2, [deep])))
