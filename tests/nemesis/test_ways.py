"""Places come and go."""

from __future__ import annotations

import random

import pytest

from tests.nemesis.ways import CLIENTS, Ways


class Line:
    """A connection that remembers whether it was cut."""

    def __init__(self) -> None:
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


def test_a_new_place_is_joined_to_all_others() -> None:
    ways = Ways(["n1", "n2"], random.Random(1))
    ways.add("n3")
    for other in ("n1", "n2", CLIENTS):
        ways.part(["n3"], [other])
        assert all(way.dark for way in ways.both("n3", other))
    assert not ways.way("n1", "n2").dark
    ways.mend(cut=False)
    assert not ways.way("n1", "n3").dark


def test_what_is_on_the_ways_of_a_place_goes_with_it() -> None:
    ways = Ways(["n1", "n2"], random.Random(1))
    way, line, other = ways.way("n2", "n1"), Line(), Line()
    way.connections.add(line)
    ways.way("n1", CLIENTS).connections.add(other)
    way.darken()
    ways.remove("n2")
    assert line.is_cut
    assert not other.is_cut
    assert not way.dark, "who waits for it finds that it is cut"
    with pytest.raises(KeyError):
        ways.both("n1", "n2")
    ways.mend(cut=True)
