"""The leader's side of a write: batches of all nodes become entries, in the term they name or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cluster.engine import Engine
from cluster.journal import Journal
from cluster.messages import ProtocolViolationError
from cluster.settings import Limits
from statemachine import limits as state_limits
from statemachine.entry import Header, batch_frame_count, batch_identity, check_batch, encode_entry

Refuse = Callable[[str, int, int, str], None]
"""(node id of the proposer, sequence, term, code)."""


class Intake:
    """What waits to be appended by this leader."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        limits: Limits,
        *,
        time_known: Callable[[], bool],
        entry_time_ms: Callable[[], int],
        refuse: Refuse,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._limits = limits
        self._time_known = time_known
        self._entry_time_ms = entry_time_ms
        self._refuse = refuse
        self._batches: list[bytes] = []
        self._bytes = 0
        self._frames = 0
        self._seen_term = 0
        self._seen: dict[int, set[int]] = {}
        self.paused = False

    def take(self, proposer: str, term: int, low: int, batch: bytes, *, trusted: bool = False) -> None:
        """Append this batch with the others of this moment, unless it was taken already, or cannot be."""
        if not trusted and (fault := check_batch(batch)) is not None:
            raise ProtocolViolationError(fault)
        run, sequence = batch_identity(batch)
        if not self._engine.leading or self._engine.term != term or self.paused:
            self._refuse(proposer, sequence, term, "not_leader")
            return
        if self._seen_term != term:
            # What an earlier leadership took and could not append any more did not happen.
            self._seen_term, self._seen = term, {}
            self._batches, self._bytes, self._frames = [], 0, 0
        seen = self._seen.setdefault(run, set())
        if sequence in seen:
            return
        if self._uncommitted_bytes() + self._bytes > self._limits.uncommitted_bytes_max:
            self._refuse(proposer, sequence, term, "overloaded")
            return
        if len(seen) > 64:
            seen.difference_update([old for old in seen if old < low])
        seen.add(sequence)
        self._batches.append(batch)
        self._bytes += len(batch)
        self._frames += batch_frame_count(batch)

    def append(self) -> bool:
        """Make entries of everything taken, unless it may grow. THE TERM IS CHECKED AGAIN: what was taken in another is
        dropped, and the log tells its proposers."""
        if not self._batches:
            return False
        leading = self._engine.leading and self._engine.term == self._seen_term
        if leading and not self._time_known():
            return False
        if leading and self._may_grow():
            return False
        batches, self._batches, self._bytes, self._frames = self._batches, [], 0, 0
        if not leading:
            return False
        for some in _entries(batches):
            header = Header(self._entry_time_ms(), self._seen_term)
            self._engine.append(encode_entry(header, some))
        return True

    def _may_grow(self) -> bool:
        """Whether these batches wait for the entry under way, and become one entry with what comes meanwhile: an entry
        costs each node much more than another command in it. Enough of them do not wait."""
        under_way = self._journal.last_index > self._engine.commit_index
        limits = self._limits
        return under_way and self._frames < limits.entry_enough_commands and self._bytes < limits.entry_enough_bytes

    def _uncommitted_bytes(self) -> int:
        behind = self._journal.bytes_behind
        return behind(self._journal.last_index + 1) - behind(self._engine.commit_index + 1)


def _entries(batches: list[bytes]) -> Iterator[list[bytes]]:
    """As few entries as the limits of one allow."""
    some: list[bytes] = []
    frames = size = 0
    for batch in batches:
        count = batch_frame_count(batch)
        if some and (
            frames + count > state_limits.ENTRY_COMMANDS_MAX or size + len(batch) > state_limits.ENTRY_BYTES_MAX
        ):
            yield some
            some, frames, size = [], 0, 0
        some.append(batch)
        frames += count
        size += len(batch)
    if some:
        yield some
