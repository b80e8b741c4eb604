"""Whether a node's whole state was compared since it started."""

from __future__ import annotations

from cluster.range_digest import FIRST_KEY


class FirstRound:
    """Follows the pieces that were looked at. What a disk changed while the node was down may be anywhere in the state,
    so only a round without a gap counts, under one leader: another one may not have heard what was found."""

    def __init__(self) -> None:
        self.done = False
        self._term = 0
        self._begin: bytes | None = None
        self._next = FIRST_KEY
        self._wrapped = False

    def looked_at(self, term: int, start: bytes, next_key: bytes) -> None:
        """A piece was looked at and told: from `start` up to `next_key`, `FIRST_KEY` after the last."""
        if self._begin is None or (self._term, self._next) != (term, start):
            self._term, self._begin, self._wrapped = term, start, False
        self._next = next_key
        at_end = next_key == FIRST_KEY
        if (self._wrapped and (at_end or next_key >= self._begin)) or (at_end and self._begin == FIRST_KEY):
            self.done = True
        self._wrapped = self._wrapped or at_end

    def broken(self) -> None:
        """What was found was not told: the round begins again."""
        self._begin = None
