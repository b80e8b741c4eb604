"""Pieces of a state: all of it in turn, and none equal to another that is not."""

from __future__ import annotations

import pytest

from cluster.range_digest import FIRST_KEY, RangeDigest, digest_range

Items = list[tuple[bytes, bytes]]


def _key(number: int) -> bytes:
    return b"k%06d" % number


def test_pieces_go_round() -> None:
    items: Items = [(_key(number), b"v") for number in range(2_500)]
    start, seen = FIRST_KEY, []
    for _ in range(4):
        found = digest_range(item for item in items if item[0] >= start)
        start = found.next_key
        seen.append(start)
    assert seen == [_key(1_000), _key(2_000), FIRST_KEY, _key(1_000)]


def test_a_piece_of_large_values_is_short() -> None:
    items: Items = [(_key(number), bytes(400_000)) for number in range(10)]
    assert digest_range(items).next_key == _key(3)


@pytest.mark.parametrize(
    "other",
    [
        [(b"a", b"1"), (b"b", b"3")],
        [(b"a", b"1"), (b"c", b"2")],
        [(b"a", b"1")],
        [(b"a", b"1"), (b"b", b"2"), (b"c", b"")],
        [(b"a", b"1b"), (b"", b"2")],
        [(b"a1", b""), (b"b", b"2")],
    ],
)
def test_any_difference_shows(other: Items) -> None:
    items: Items = [(b"a", b"1"), (b"b", b"2")]
    assert digest_range(items) == digest_range(list(items))
    assert digest_range(items).digest != digest_range(other).digest


def test_nothing_is_a_piece_too() -> None:
    assert isinstance(digest_range([]), RangeDigest)
    assert digest_range([]).next_key == FIRST_KEY
