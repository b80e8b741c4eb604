"""A round counts when every key was looked at once, under one leader, without a gap."""

from __future__ import annotations

import pytest

from cluster.first_round import FirstRound
from cluster.range_digest import FIRST_KEY

Piece = tuple[int, bytes, bytes]


def followed(*pieces: Piece) -> FirstRound:
    first_round = FirstRound()
    for piece in pieces:
        assert not first_round.done
        first_round.looked_at(*piece)
    return first_round


@pytest.mark.parametrize(
    "pieces",
    [
        [(1, FIRST_KEY, FIRST_KEY)],
        [(1, FIRST_KEY, b"k"), (1, b"k", FIRST_KEY)],
        [(1, b"k", b"p"), (1, b"p", FIRST_KEY), (1, FIRST_KEY, b"k")],
        [(1, b"k", FIRST_KEY), (1, FIRST_KEY, b"d"), (1, b"d", b"m")],
        # What it began with was deleted meanwhile.
        [(1, b"k", FIRST_KEY), (1, FIRST_KEY, b"d"), (1, b"d", FIRST_KEY)],
    ],
    ids=["one piece", "from the first key", "from the middle", "other pieces the second time", "fewer keys"],
)
def test_a_whole_round(pieces: list[Piece]) -> None:
    assert followed(*pieces).done


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [(1, b"k", FIRST_KEY)],
        [(1, b"k", FIRST_KEY), (1, FIRST_KEY, b"d")],
        [(1, FIRST_KEY, b"k"), (1, b"p", FIRST_KEY)],
        [(1, FIRST_KEY, b"k"), (2, b"k", FIRST_KEY)],
    ],
    ids=["nothing", "the end alone", "not yet around", "a gap", "another leader"],
)
def test_less_than_a_round(pieces: list[Piece]) -> None:
    assert not followed(*pieces).done


def test_what_was_not_told_does_not_count() -> None:
    first_round = followed((1, FIRST_KEY, b"k"))
    first_round.broken()
    first_round.looked_at(1, b"k", FIRST_KEY)
    assert not first_round.done
