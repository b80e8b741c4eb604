"""The time of an entry: never goes back, and one node's wrong clock cannot move it far.

Entry time = max(previous entry's, min(this leader's wall clock, median of all known clocks + 500 ms)).
"""

from __future__ import annotations

from cluster.contact import Contact
from cluster.engine import NO_OP
from cluster.journal import Journal
from cluster.ports import Clock
from statemachine.entry import decode_header

_AHEAD_OF_PEERS_MS = 500

_NO_OPS_IN_A_ROW = 64
"""How far to look back for an entry with a time. Further back, the state's own time (`seen` at start) stands in."""


class EntryTime:
    """Stamps the entries of one leader."""

    def __init__(self, clock: Clock, contact: Contact, skew_max_ms: int) -> None:
        self._clock = clock
        self._contact = contact
        self._skew_max_ms = skew_max_ms
        self._last_ms = 0

    def seen(self, time_ms: int) -> None:
        """An entry of the log has this time; none may be older after it."""
        self._last_ms = max(self._last_ms, time_ms)

    def resume(self, journal: Journal) -> None:
        """This node begins to lead: its first entry is not older than the last one of its log."""
        oldest = max(journal.first_index, journal.last_index - _NO_OPS_IN_A_ROW)
        for index in range(journal.last_index, oldest - 1, -1):
            command = journal[index - journal.first_index][0]
            if command[:1] != NO_OP:
                self.seen(decode_header(command[1:]).time_ms)
                return

    @property
    def known(self) -> bool:
        """Whether enough clocks are known that a wrong one cannot move the time. A LEADER STAMPS NOTHING BEFORE: its
        own clock alone could be hours ahead, and time is never taken back."""
        return self._contact.clocks_known()

    def now_ms(self) -> int:
        """This node's estimate of the cluster's time, not older than the last entry."""
        wall_ms = self._clock.wall_ms()
        ahead_ms = int(self._contact.median_offset_ms())
        return max(self._last_ms, min(wall_ms, wall_ms + ahead_ms + _AHEAD_OF_PEERS_MS))

    def stamp_ms(self) -> int:
        """The time of the next entry."""
        self._last_ms = self.now_ms()
        return self._last_ms

    @property
    def clock_is_wrong(self) -> bool:
        """Whether this node's clock is so far from its peers' that it should not lead."""
        return abs(self._contact.median_offset_ms()) > self._skew_max_ms
