"""What the members know of each other without the log: who answers, how late, what their clocks say.

The leader sends a numbered probe to every member each heartbeat period, and at once when a linearizable read waits. An
answer proves that the member's term was still this one *after* the probe left, which is what ReadIndex (Raft thesis
6.4),
the leader's memory and the lag of followers are built on. No lease is: nothing here trusts that clocks run equally
fast.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any

from cluster.ports import Clock

Message = dict[str, Any]

_ROUNDS_KEPT_MAX = 64
"""Unanswered rounds remembered; older ones can no longer matter to anybody."""

_CLOCK_KEPT_S = 10.0
"""What a peer's clock said counts for this long: it may have been set since, and this node no longer asks when it does
not lead."""


@dataclass(slots=True)
class _Round:
    number: int
    term: int
    sent_s: float
    commit_index: int
    answered: set[str] = field(default_factory=set)


class Contact:
    """Probes and their answers. `on_confirmed(number)` is told when a majority has answered a round in its term."""

    def __init__(
        self,
        node_id: str,
        voters: Iterable[str],
        clock: Clock,
        *,
        broadcast: Callable[[Message], None],
        on_confirmed: Callable[[int], None],
    ) -> None:
        """`voters`: who is asked for a majority, with or without this node; `broadcast` may reach others too."""
        self._node_id = node_id
        self._others = frozenset(voters) - {node_id}
        self._clock = clock
        self._broadcast = broadcast
        self._on_confirmed = on_confirmed
        self._number = 0
        self._rounds: deque[_Round] = deque()
        self._confirmed: _Round | None = None
        self.heard_s: dict[str, float] = {}
        self.round_trip_s: dict[str, float] = {}
        self._clocks: dict[str, tuple[float, float]] = {}
        self._fresh_s: float | None = None
        self._leader_confirmed_s = -1e9
        self._awaiting: tuple[int, float] | None = None
        self.uncounted: set[str] = set()
        self.read_only = False

    def set_voters(self, voters: Iterable[str]) -> None:
        """These are a majority's all from now on. A round that waits may be confirmed by that: who has answered it was
        asked after it began."""
        self._others = frozenset(voters) - {self._node_id}
        if self._rounds:
            for round_ in list(self._rounds):
                self._check(round_)

    @property
    def alone(self) -> bool:
        """Whether nobody else votes."""
        return not self._others

    # --- leader -------------------------------------------------------------------------------------------------------

    def probe(self, term: int, commit_index: int) -> int:
        """Send a probe to everybody; returns its number."""
        self._number += 1
        now = self._clock.monotonic_s()
        self._rounds.append(_Round(self._number, term, now, commit_index))
        if len(self._rounds) > _ROUNDS_KEPT_MAX:
            self._rounds.popleft()
        confirmed = self._confirmed
        known = confirmed is not None and confirmed.term == term
        self._broadcast(
            {
                "type": "ping",
                "n": self._number,
                "term": term,
                "commit": confirmed.commit_index if confirmed is not None and known else None,
                "age_ms": int((now - confirmed.sent_s) * 1000) if confirmed is not None and known else None,
                "read_only": self.read_only,
            }
        )
        self._check(self._rounds[-1])
        return self._number

    def on_pong(self, peer_id: str, message: Message, current_term: int) -> None:
        """A member's answer: (number, its term, its wall clock). Of one that is being rebuilt only the clock counts."""
        now = self._clock.monotonic_s()
        for round_ in self._rounds:
            if round_.number == message["n"]:
                self.round_trip_s[peer_id] = now - round_.sent_s
                at_ms = (now + round_.sent_s) * 500
                self._clocks[peer_id] = (now, message["wall_ms"] - at_ms)
                if message["term"] == round_.term == current_term and peer_id in self._others - self.uncounted:
                    round_.answered.add(peer_id)
                    self._check(round_)
                return

    def _check(self, round_: _Round) -> None:
        if 2 * (len(round_.answered & self._others) + 1) <= len(self._others) + 1:
            return
        if self._confirmed is not None and self._confirmed.number >= round_.number:
            return
        self._confirmed = round_
        while self._rounds and self._rounds[0].number < round_.number:
            self._rounds.popleft()
        self._on_confirmed(round_.number)

    def confirmed_s(self, term: int) -> float | None:
        """Seconds since the newest confirmed probe of this term was sent."""
        if self._confirmed is None or self._confirmed.term != term:
            return None
        return self._clock.monotonic_s() - self._confirmed.sent_s

    def has_quorum_contact(self, within_s: float) -> bool:
        """Whether a majority, this node included, was heard of within that time."""
        since = self._clock.monotonic_s() - within_s
        heard = sum(1 for peer in self._others - self.uncounted if self.heard_s.get(peer, -1e9) >= since)
        return 2 * (heard + 1) > len(self._others) + 1

    # --- follower -----------------------------------------------------------------------------------------------------

    def on_ping(self, message: Message, applied_index: int) -> None:
        """The leader's probe says up to where everything was committed, and how long ago that was known for sure."""
        if message["commit"] is None:
            return
        as_of_s = self._clock.monotonic_s() - message["age_ms"] / 1000
        self._leader_confirmed_s = max(self._leader_confirmed_s, as_of_s)
        self._sure(message["commit"], as_of_s, applied_index)

    def led(self, applied_index: int) -> None:
        """This node led, and a majority just confirmed it: so much was committed, should it follow next."""
        if self._confirmed is not None:
            self._sure(self._confirmed.commit_index, self._confirmed.sent_s, applied_index)

    def _sure(self, commit_index: int, as_of_s: float, applied_index: int) -> None:
        if applied_index >= commit_index:
            self._fresh_s = max(self._fresh_s or as_of_s, as_of_s)
            self._awaiting = None
        elif self._awaiting is None:
            self._awaiting = (commit_index, as_of_s)

    def leader_has_quorum(self, within_s: float) -> bool:
        """Whether this follower's leader said that a majority had answered it within that time."""
        return self._clock.monotonic_s() - self._leader_confirmed_s <= within_s

    def on_applied(self, applied_index: int) -> None:
        """More is applied: what was awaited may be here now."""
        if self._awaiting is not None and applied_index >= self._awaiting[0]:
            self._fresh_s = max(self._fresh_s or self._awaiting[1], self._awaiting[1])
            self._awaiting = None

    def lag_ms(self) -> int | None:
        """Time since this follower had applied all that was surely committed."""
        if self._fresh_s is None:
            return None
        return max(0, int((self._clock.monotonic_s() - self._fresh_s) * 1000))

    def wall_ms(self) -> int:
        """This node's own wall clock, for the answer to a probe."""
        return self._clock.wall_ms()

    # --- all ----------------------------------------------------------------------------------------------------------

    def heard(self, peer_id: str) -> None:
        """Any message of a peer."""
        self.heard_s[peer_id] = self._clock.monotonic_s()

    def lost(self, peer_id: str) -> None:
        """A peer's clock counts only while it answers."""
        self._clocks.pop(peer_id, None)
        self.round_trip_s.pop(peer_id, None)

    def clocks_known(self) -> bool:
        """Whether the clocks of a majority, this node's included, were heard of lately."""
        return 2 * (len(self._fresh_clocks()) + 1) > len(self._others) + 1

    def median_offset_ms(self) -> float:
        """How far the median of all known clocks, this node's included, is ahead of this node's.

        All are compared with this node's monotonic clock, which nobody sets: a jump of its own wall clock shows at
        once. Of two middle ones the lower counts: with two clocks nobody knows which is wrong, and a time that stands
        still does less harm than one that runs ahead, expires what is in use, and cannot be taken back.
        """
        own_ms = self._clock.wall_ms() - self._clock.monotonic_s() * 1000
        return median_low([own_ms, *self._fresh_clocks()]) - own_ms

    def _fresh_clocks(self) -> list[float]:
        """Wall clocks of peers minus this node's monotonic one, milliseconds."""
        since = self._clock.monotonic_s() - _CLOCK_KEPT_S
        return [
            ahead_ms
            for peer, (measured_s, ahead_ms) in self._clocks.items()
            if measured_s >= since and peer in self._others
        ]
