"""What the records of a journal add up to."""

from __future__ import annotations

from cluster.journal.errors import JournalDamaged, JournalVersion
from cluster.journal.log import HardState
from cluster.journal.records import (
    COMMIT,
    ENTRY,
    HEAD,
    RECORD_HEADER_BYTES,
    RESET,
    TERM,
    TRIM,
    TRUNCATE,
    Head,
    RecordPlace,
    entry_index_term,
    parse_head,
    parse_index,
    parse_term,
)
from cluster.journal.table import EntryTable


class Replay:
    """Applies verified groups in the order they were written.

    The first segment still there rarely is the first that was: until the log's start is reached, entries and
    truncations may refer to what was deleted with earlier segments. `finish` checks that nothing needed is
    among that.
    """

    def __init__(self) -> None:
        self.hard = HardState()
        self.table = EntryTable(1)
        self.first_index = 1
        self._started = False

    def group(self, data: bytes, places: list[RecordPlace], base: int, where: str) -> None:
        """Apply one group; `base` is the stream offset of `data`. Raises JournalDamaged, JournalVersion."""
        table = self.table
        for kind, position, body_bytes in places:
            if kind == ENTRY:
                index, term = entry_index_term(data, position)
                if index != table.last + 1:
                    raise JournalDamaged(f"{where} holds entry {index} where {table.last + 1} must follow")
                table.append(base + position, RECORD_HEADER_BYTES + body_bytes, term)
            elif kind == COMMIT:
                self.hard.commit_index = parse_index(data, position)
            elif kind == TERM:
                self.hard.term, self.hard.vote = parse_term(data, position)
            elif kind == TRUNCATE:
                table.truncate(parse_index(data, position))
            elif kind == TRIM:
                self.first_index = parse_index(data, position)
            elif kind == RESET:
                self.first_index = parse_index(data, position)
                self.table = table = EntryTable(self.first_index)
            elif kind == HEAD:
                self._head(parse_head(data, position), where)
                table = self.table
            else:
                raise JournalVersion(f"{where} holds a record of kind {kind}, known to a newer release only")

    def finish(self, where: str) -> None:
        """Bring the table to the log's own range. Raises JournalDamaged if part of it is not there."""
        if self.table.first > self.first_index:
            raise JournalDamaged(f"entries {self.first_index} to {self.table.first - 1} are missing before {where}")
        if self.first_index > self.table.last + 1:
            raise JournalDamaged(f"the log is to begin at {self.first_index}, but ends at {self.table.last}")
        self.table.drop_before(self.first_index)

    def _head(self, head: Head, where: str) -> None:
        if not self._started:
            self.table = EntryTable(head.next_index)
            self.first_index = head.first_index
            self.hard.term, self.hard.vote = head.term, head.vote
            self._started = True
        elif (head.next_index, head.first_index) != (self.table.last + 1, self.first_index):
            raise JournalDamaged(f"{where} goes on at entry {head.next_index} of a log that ends at {self.table.last}")
        self.hard.commit_index = head.commit_index
