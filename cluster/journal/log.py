"""The log in memory and on its way to the disk: what each change does to both.

`Journal` stands before it with the engine's habits; here a change is a change, and nothing is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.journal.cache import EntryCache
from cluster.journal.errors import JournalConflict, JournalDamaged
from cluster.journal.options import JournalOptions
from cluster.journal.reader import EntryReader
from cluster.journal.records import (
    COMMIT,
    ENTRY_HEADER_BYTES,
    RESET,
    TRIM,
    TRUNCATE,
    Head,
    pack_entry_header,
    pack_head,
    pack_index,
    pack_term,
)
from cluster.journal.segments import Segments
from cluster.journal.slices import Entry
from cluster.journal.table import EntryTable
from cluster.journal.worker import Worker
from cluster.journal.writer import Group, GroupWriter


@dataclass(slots=True)
class HardState:
    """What a node must not forget beside its entries."""

    term: int = 0
    vote: str | None = None
    commit_index: int = 0


class DurableLog:
    """Entries `first_index` to `last_index`, term, vote, commit index. Changes are buffered in order."""

    def __init__(
        self,
        *,
        worker: Worker,
        writer: GroupWriter,
        segments: Segments,
        table: EntryTable,
        hard: HardState,
        salt: int,
        options: JournalOptions,
    ) -> None:
        self.worker = worker
        self.writer = writer
        self.segments = segments
        self.table = table
        self.hard = hard
        self.cache = EntryCache(table.last + 1, options.cache_bytes)
        self.durable_commit_index = hard.commit_index
        self._salt = salt
        self._reader = EntryReader(segments, salt)
        self._commit_buffered = hard.commit_index
        self._commit_in_flight = hard.commit_index
        # The engine asks for the first entry at every turn; it is long out of the cache.
        self._first_entry: Entry | None = None
        writer.attach(self)

    @property
    def first_index(self) -> int:
        """The oldest entry that is kept; last_index + 1 when there is none."""
        return self.table.first

    @property
    def last_index(self) -> int:
        """The newest entry."""
        return self.table.last

    @property
    def durable_index(self) -> int:
        """The newest entry that is durable with everything before it.

        Derived from where the records lie, never from what index was last fsynced: an entry that replaced
        another lies later in the stream, so an fsync that began before the replacement cannot count for it.
        """
        return self.table.first_at_or_after(self.writer.durable_end) - 1

    def entry(self, index: int) -> Entry:
        """The entry at an index that is in the log."""
        cached = self.cache.get(index)
        if cached is not None:
            return cached
        if index == self.table.first:
            if self._first_entry is None or self._first_entry[1] != index:
                self._first_entry = self._read(index)
            return self._first_entry
        return self._read(index)

    def entry_command_bytes(self, index: int) -> int:
        """Length of an entry's command; never asks the disk."""
        return self.table.length_bytes(index) - ENTRY_HEADER_BYTES

    def append(self, command: bytes, index: int, term: int) -> None:
        """Add the next entry."""
        table = self.table
        if index != table.last + 1 or (table.last >= table.first and term < table.term(table.last)):
            self.worker.fail(
                JournalConflict(f"entry {index} of term {term} does not follow the last entry, {table.last}")
            )
        header = pack_entry_header(self._salt, command, index, term)
        offset = self.writer.append(header, command)
        table.append(offset, len(header) + len(command), term)
        self.cache.append((command, index, term))

    def truncate(self, index: int) -> None:
        """Drop the entry at `index` and all after it."""
        committed = self.hard.commit_index
        if index <= max(committed, self.table.first):
            self.worker.fail(JournalConflict(f"entry {index} is to go, but the log is committed to {committed}"))
        self.writer.append(pack_index(self._salt, TRUNCATE, index))
        self.table.truncate(index)
        self.cache.truncate(index)

    def replace(self, entries: list[Entry]) -> None:
        """Put these entries in place of the whole log; a crash leaves either log whole."""
        last = entries[-1][1]
        if len(self.table) and last <= max(self.hard.commit_index, self.table.first):
            self.worker.fail(
                JournalConflict(
                    f"a snapshot at entry {last} is to replace a log that begins at {self.table.first} "
                    f"and is committed to {self.hard.commit_index}"
                )
            )
        first = entries[0][1]
        self.writer.append(pack_index(self._salt, RESET, first))
        self.table = EntryTable(first)
        self.cache = EntryCache(first, self.cache.bytes_max)
        self._first_entry = None
        for command, index, term in entries:
            self.append(command, index, term)

    def trim(self, first_index: int) -> None:
        """Give up everything before `first_index`."""
        if first_index > self.table.first:
            self.writer.append(pack_index(self._salt, TRIM, first_index))
            self.table.drop_before(first_index)

    def set_term(self, term: int, vote: str | None) -> None:
        """Remember the term and who got this node's vote in it."""
        if (term, vote) != (self.hard.term, self.hard.vote):
            self.writer.append(pack_term(self._salt, term, vote))
            self.hard.term, self.hard.vote = term, vote

    def commit(self, index: int) -> None:
        """Remember that the log is committed to `index`; written with the next group."""
        if index > self.hard.commit_index:
            self.worker.check()
            self.hard.commit_index = index

    def write_commit(self) -> None:
        """Buffer the commit index now, if no group has it yet."""
        if self.hard.commit_index > self._commit_buffered:
            self.writer.append(pack_index(self._salt, COMMIT, self.hard.commit_index))
            self._commit_buffered = self.hard.commit_index

    def bytes_behind(self, index: int) -> int:
        """Bytes of log before the entry at `index`."""
        if index <= self.table.first:
            return 0
        end = self.table.offset(index) if index <= self.table.last else self.writer.end
        return end - self._first_offset()

    def _first_offset(self) -> int:
        return self.table.offset(self.table.first) if len(self.table) else self.writer.end

    def _read(self, index: int) -> Entry:
        self.worker.check()
        table = self.table
        try:
            entry = self._reader.read(table.offset(index), table.length_bytes(index), self.writer.durable_end)
        except (OSError, JournalDamaged) as error:
            self.worker.fail(error)
        if (entry[1], entry[2]) != (index, table.term(index)):
            self.worker.fail(JournalDamaged(f"entry {index} was looked for and entry {entry[1]} was found"))
        return entry

    # The writer's side.

    def head_record(self) -> bytes:
        """The state that a new segment repeats."""
        self._commit_buffered = self.hard.commit_index
        head = Head(self.hard.term, self.hard.vote, self.hard.commit_index, self.table.first, self.table.last + 1)
        return pack_head(self._salt, head)

    def before_seal(self) -> int:
        """The commit index goes with every group, so that what came with an append is never behind it."""
        self.write_commit()
        self._commit_in_flight = self._commit_buffered
        return self._first_offset()

    def group_durable(self, group: Group) -> None:
        """Let go of what the disk now holds, or need not hold any longer."""
        self.durable_commit_index = self._commit_in_flight
        self.cache.evict(self.durable_index + 1, self.table.first)
        gone = self.segments.drop_before(group.keep_from)
        if gone:
            self.segments.delete(gone)
