"""What the lines between nodes and clients are like: each direction of each pair can be dark, late, slow or torn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

CLIENTS = "clients"
"""Everybody who speaks HTTP, seen as one place."""


class Cuttable(Protocol):
    """A connection through a proxy."""

    def cut(self) -> None:
        """End it at both ends, without a word."""


@dataclass(slots=True)
class Way:
    """One direction between two places. What meets a dark way waits, as it would in the sender's kernel: it arrives
    late when the way opens again, or never if the connection is cut meanwhile."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    lost_after_bytes: tuple[int, int] | None = None
    connections: set[Cuttable] = field(default_factory=set)
    _light: asyncio.Event = field(default_factory=asyncio.Event)
    _left_bytes: int = 0

    def __post_init__(self) -> None:
        self._light.set()

    @property
    def dark(self) -> bool:
        """Whether nothing passes."""
        return not self._light.is_set()

    def darken(self) -> None:
        """Let nothing pass from now on."""
        self._light.clear()

    def mend(self) -> None:
        """As it was in the beginning."""
        self.delay_s, self.bytes_per_s, self.lost_after_bytes = 0.0, 0.0, None
        self._light.set()

    async def light(self) -> None:
        """Wait until something can pass."""
        await self._light.wait()

    def tear(self, at_least: int, at_most: int, rng: random.Random) -> None:
        """Lose a connection each time about so many bytes have passed."""
        self.lost_after_bytes = (at_least, at_most)
        self._left_bytes = rng.randint(at_least, at_most)

    def passes(self, count: int, rng: random.Random) -> int:
        """How many of so many bytes pass before the connection is lost; all of them on a sound way."""
        if self.lost_after_bytes is None:
            return count
        if count < self._left_bytes:
            self._left_bytes -= count
            return count
        passed, self._left_bytes = self._left_bytes, rng.randint(*self.lost_after_bytes)
        return passed


class Ways:
    """All directions between all places. `rng` decides what chance decides."""

    def __init__(self, places: Iterable[str], rng: random.Random) -> None:
        self.rng = rng
        self._places = {CLIENTS}
        self._ways: dict[tuple[str, str], Way] = {}
        for place in places:
            self.add(place)

    def add(self, place: str) -> None:
        """A place that was not there before."""
        for other in self._places:
            self._ways[place, other], self._ways[other, place] = Way(), Way()
        self._places.add(place)

    def remove(self, place: str) -> None:
        """No such place any more: what is on its ways goes nowhere."""
        self._places.remove(place)
        for other in self._places:
            for pair in ((place, other), (other, place)):
                way = self._ways.pop(pair)
                way.mend()
                for connection in list(way.connections):
                    connection.cut()

    def way(self, source: str, target: str) -> Way:
        """From `source` to `target`."""
        return self._ways[source, target]

    def both(self, one: str, other: str) -> tuple[Way, Way]:
        """Both directions between two places."""
        return self._ways[one, other], self._ways[other, one]

    def part(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Darken every way between two sets of places."""
        there = list(others)
        for one in some:
            for other in there:
                for way in self.both(one, other):
                    way.darken()

    def mend(self, *, cut: bool) -> None:
        """Mend all ways. With `cut`, what waited on a way that was not sound is lost with its connection."""
        for way in self._ways.values():
            if cut and (way.dark or way.delay_s or way.bytes_per_s):
                for connection in list(way.connections):
                    connection.cut()
            way.mend()
