"""The bytes of the journal, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.journal import records
from cluster.journal.records import Head

SALT = records.salt_of(b"j" * 16)
U64 = st.integers(0, 2**64 - 1)
VOTES = st.none() | st.text(max_size=40)


def group_of(*packed: bytes, durable_offset: int = 7) -> bytes:
    body = b"".join(packed)
    return records.pack_group_header(SALT, durable_offset, len(body)) + body


@given(st.binary(max_size=300), U64, U64)
def test_an_entry_round_trips(command: bytes, index: int, term: int) -> None:
    data = b"before" + records.pack_entry_header(SALT, command, index, term) + command + b"after"
    assert records.parse_entry(data, 6, SALT) == (command, index, term)
    assert records.entry_index_term(data, 6) == (index, term)


@given(U64, VOTES)
def test_a_term_round_trips(term: int, vote: str | None) -> None:
    data = records.pack_term(SALT, term, vote)
    assert records.parse_term(data, 0) == (term, vote)


@given(U64, VOTES, U64, U64, U64)
def test_a_head_round_trips(term: int, vote: str | None, commit: int, first: int, following: int) -> None:
    head = Head(term, vote, commit, first, following)
    assert records.parse_head(records.pack_head(SALT, head), 0) == head


@given(U64, U64)
def test_a_segment_header_round_trips(number: int, base: int) -> None:
    data = records.pack_segment_header(b"j" * 16, number, base)
    assert len(data) == records.SEGMENT_HEADER_BYTES
    assert records.parse_segment_header(data) == (records.FORMAT_VERSION, b"j" * 16, number, base, True)


def test_a_group_lists_its_records() -> None:
    first = records.pack_index(SALT, records.TRUNCATE, 12)
    second = records.pack_entry_header(SALT, b"abc", 12, 3) + b"abc"
    data = b"--" + group_of(first, second) + b"--"
    parsed = records.parse_group(data, 2, len(data), SALT)
    assert parsed is not None
    places, end = parsed
    assert [place[0] for place in places] == [records.TRUNCATE, records.ENTRY]
    assert records.parse_index(data, places[0][1]) == 12
    assert records.parse_entry(data, places[1][1], SALT) == (b"abc", 12, 3)
    assert end == len(data) - 2


def test_no_changed_bit_of_a_group_passes() -> None:
    group = group_of(
        records.pack_index(SALT, records.COMMIT, 5), records.pack_entry_header(SALT, b"abc", 1, 1) + b"abc"
    )
    for position in range(len(group)):
        for bit in range(8):
            bad = bytearray(group)
            bad[position] ^= 1 << bit
            assert records.parse_group(bytes(bad), 0, len(bad), SALT) is None


def test_no_part_of_a_group_passes() -> None:
    group = group_of(records.pack_index(SALT, records.COMMIT, 5))
    for length in range(len(group)):
        assert records.parse_group(group[:length], 0, length, SALT) is None


def test_another_journals_group_does_not_pass() -> None:
    group = group_of(records.pack_index(SALT, records.COMMIT, 5))
    assert records.parse_group(group, 0, len(group), SALT) is not None
    assert records.parse_group(group, 0, len(group), records.salt_of(b"k" * 16)) is None


def test_a_node_id_has_a_limit() -> None:
    with pytest.raises(ValueError, match="limit"):
        records.pack_term(SALT, 1, "n" * 5000)
