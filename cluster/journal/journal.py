"""The log as the consensus engine uses it.

The engine (PySyncObj) treats its journal as a list that it may cut and refill. Three of its habits would lose
acknowledged entries on a crash, so they are answered here instead of done:

* A follower cuts everything behind the place a message attaches to, even when the entries agree, and adds
  back only what that message holds. `deleteEntriesFrom` therefore only hides the tail; entries that come
  again are taken back unwritten, a conflicting one drops the rest for good, and `setRaftCommitIndex`, the
  last call of that handler, shows what is left.
* Loading a snapshot clears the journal and adds the snapshot's two entries. `clear` therefore waits for them:
  if the log holds one of them, it agrees with the snapshot and stays, with what follows; otherwise it is
  replaced in one group.
* Compaction rewrites the journal. `deleteEntriesTo` moves the start and deletes whole segments later.

CALL `flush` WHEN THE ENGINE HAS RETURNED, NOT FROM WITHIN ITS HANDLERS: a commit index then shares the group
of the entries it came with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from pysyncobj.journal import Journal as EngineJournal

from cluster.journal.errors import JournalConflict
from cluster.journal.log import DurableLog
from cluster.journal.opening import open_log
from cluster.journal.options import JournalOptions
from cluster.journal.retention import Hold, Retention
from cluster.journal.slices import Entry, LogSlice
from cluster.journal.stats import JournalStats
from cluster.ports import Clock, Disk, DurableWriter, Executor


class Journal(EngineJournal):  # type: ignore[misc]  # the engine is not typed
    """The durable log with the engine's face and ours. One thread; only old entries are read from the disk."""

    def __init__(self, log: DurableLog, options: JournalOptions) -> None:
        self._log = log
        self._retention = Retention(options)
        self._last = log.last_index
        self._replacing: list[Entry] | None = None
        self._reattaching = False
        self._snapshot_index: int | None = None

    @classmethod
    def open(cls, disk: Disk, *, journal_id: bytes, options: JournalOptions, clock: Clock, create: bool) -> Journal:
        """Open the journal, or make a new one with `create`; everything in it is durable then. Blocks.

        journal_id: 16 random bytes, made with the journal and kept in the node's identity file.
        Raises JournalMissing, JournalExists, JournalForeign, JournalVersion, JournalDamaged, OSError.
        """
        return cls(open_log(disk, journal_id, options, clock, create=create), options)

    def bind(
        self,
        executor: Executor,
        on_durable: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        on_fsync: Callable[[float], None] | None = None,
        writer: DurableWriter | None = None,
    ) -> None:
        """Name who does the writing, and who hears of its end; before the engine gets the journal.

        on_durable: after every group. on_failure: once, after which the process must end. on_fsync: seconds
        of each. writer: writes groups without the executor, if there is one.
        """
        self._log.worker.bind(executor, on_failure, writer)
        self._log.writer.bind(on_durable, on_fsync)

    # Reading.

    def __len__(self) -> int:
        if self._replacing is not None:
            return len(self._replacing)
        return self._last - self._log.first_index + 1

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> LogSlice | list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | LogSlice | list[Entry]:
        if self._replacing is not None:
            return self._replacing[item]
        log = self._log
        first = log.first_index
        if isinstance(item, slice):
            start, stop, step = item.indices(self._last - first + 1)
            if step != 1:
                raise ValueError("a slice of the log has no step")
            return LogSlice(log.entry, first + start, first + stop)
        index = (first if item >= 0 else self._last + 1) + item
        if not first <= index <= self._last:
            raise IndexError("no such entry in the log")
        return log.entry(index)

    @property
    def first_index(self) -> int:
        """Index of the oldest entry."""
        return self._log.first_index

    @property
    def last_index(self) -> int:
        """Index of the newest entry that the engine sees; first_index - 1 when the log is empty."""
        return self._last

    @property
    def last_term(self) -> int:
        """Term of the newest entry, 0 when the log is empty."""
        return self.term_at(self._last) or 0

    def term_at(self, index: int) -> int | None:
        """Term of an entry, None if it is not in the log."""
        if self._log.first_index <= index <= self._last:
            return self._log.table.term(index)
        return None

    def bytes_behind(self, index: int) -> int:
        """Bytes of log before an entry, as much of it as is kept."""
        return self._log.bytes_behind(index)

    @property
    def total_bytes(self) -> int:
        """Bytes of log from the oldest entry to the end, buffered ones included."""
        return self._log.bytes_behind(self._log.last_index + 1)

    # The engine's changes. The names are the engine's.

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry, or take back one that was hidden."""
        if self._replacing is not None:
            self._add_replacing(command, idx, term)
            return
        log = self._log
        if self._last == log.last_index:
            log.append(command, idx, term)
        elif idx == self._last + 1 and log.table.term(idx) == term:
            if not self._reattaching:
                self._check_same(command, idx)
        else:
            log.truncate(self._last + 1)
            log.append(command, idx, term)
        self._last = idx
        if self._reattaching:
            self._reattaching = False
            self._last = log.last_index

    def clear(self) -> None:
        """Begin to load a snapshot: the next two entries decide what becomes of the log."""
        self._check_whole("clear")
        self._replacing = []

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803  # the engine's name
        """Hide the entries from this position on."""
        self._check_whole("deleteEntriesFrom")
        self._last = min(self._last, self._log.first_index + entryFrom - 1)

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803  # the engine's name
        """A snapshot covers what is before this position: let go of it, but for what must stay."""
        self._check_whole("deleteEntriesTo")
        self._snapshot_index = min(self._log.first_index + entryTo, self._log.last_index)
        self._trim()

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803  # the engine's name
        """Remember the commit index, and show again what was hidden and not contradicted."""
        self._check_whole("setRaftCommitIndex")
        self._last = self._log.last_index
        self._log.commit(raftCommitIndex)

    def getRaftCommitIndex(self) -> int:  # noqa: N802  # the engine's name
        """The commit index as far as it is known here: a lower bound, within the log, at least 1."""
        return max(1, min(self._log.hard.commit_index, self._log.last_index))

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803  # the engine's name
        """Remember term and vote. NOT DURABLE on return: what depends on it waits for durable_sequence."""
        # Were a handler to end in an exception, its hidden tail must be back before this node votes or leads.
        if self._replacing is None:
            self._last = self._log.last_index
        self._log.set_term(term, votedForNodeId)

    def getCurrentTerm(self) -> int:  # noqa: N802  # the engine's name
        """The current term."""
        return self._log.hard.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802  # the engine's name
        """Who got this node's vote in the current term."""
        return self._log.hard.vote

    def onOneSecondTimer(self) -> None:  # noqa: N802  # the engine's name
        """Write a commit index that no group has taken, and try again to reserve the spare segment."""
        self._log.write_commit()
        self.flush()
        if not self._log.segments.spare_ready:
            self._log.segments.prepare_spare()

    def _destroy(self) -> None:
        self.close()

    # Durability.

    def flush(self) -> None:
        """Start to make durable what is buffered; `bind` names who hears of the end."""
        self._log.writer.flush()

    def sync_blocking(self) -> None:
        """Make everything durable before returning; for start and stop. Raises OSError."""
        self._log.worker.check()
        self._log.write_commit()
        self._log.writer.flush_blocking(mark=False)

    def close(self) -> None:
        """Make everything durable, leave a mark that vouches for it, accept nothing more. Blocks."""
        if self._log.worker.error is None:
            self._log.write_commit()
            self._log.writer.flush_blocking(mark=True)
            self._log.worker.end_use()

    @property
    def written_sequence(self) -> int:
        """Number of the newest record."""
        return self._log.writer.written_sequence

    @property
    def durable_sequence(self) -> int:
        """Number of the newest record that is durable."""
        return self._log.writer.durable_sequence

    @property
    def durable_index(self) -> int:
        """The newest entry of the log as it is now that is durable with all before it."""
        return min(self._last, self._log.durable_index)

    @property
    def durable_commit_index(self) -> int:
        """The commit index that a restart would find, or a lower one."""
        return self._log.durable_commit_index

    @property
    def oldest_unsynced_since_s(self) -> float | None:
        """Monotonic time at which the oldest record that is not durable was added; None if all are."""
        return self._log.writer.oldest_unsynced_since_s

    def stats(self) -> JournalStats:
        """Figures for the metrics."""
        log = self._log
        return JournalStats(
            fsyncs=log.writer.fsyncs,
            last_fsync_s=log.writer.last_fsync_s,
            total_fsync_s=log.writer.total_fsync_s,
            segments=len(log.segments),
            entries=len(log.table),
            total_bytes=self.total_bytes,
            cached_bytes=log.cache.cached_bytes,
            spare_ready=log.segments.spare_ready,
        )

    # What stays.

    def hold(self, index: int) -> Hold:
        """Keep the entries from `index` on until the hold is released, within `hold_bytes_max`."""
        hold = Hold(index, self._released)
        self._retention.add(hold)
        return hold

    def _released(self, hold: Hold) -> None:
        if self._retention.discard(hold):
            self._trim()

    def _trim(self) -> None:
        wanted = self._snapshot_index
        if wanted is not None and self._log.first_index < wanted <= self._log.last_index:
            self._log.trim(self._retention.first_kept(self._log.table, wanted))

    # Loading a snapshot.

    def _add_replacing(self, command: bytes, idx: int, term: int) -> None:
        """One of the two entries a snapshot ends with; Raft figure 13.

        The lower one is tried first: where it agrees everything hangs together and the higher one is handled
        like any entry that comes again. Where the log was trimmed up to the higher one, that one alone
        decides.
        """
        assert self._replacing is not None
        log = self._log
        lower = self._replacing
        known = log.first_index <= idx <= log.last_index and log.table.term(idx) == term
        if known and (not lower or lower[0][1] < log.first_index):
            self._replacing = None
            self._last = log.last_index if lower else idx
            self._reattaching = not lower
        elif lower:
            self._replacing = None
            log.replace([lower[0], (command, idx, term)])
            self._last = idx
        else:
            lower.append((command, idx, term))

    def _check_same(self, command: bytes, idx: int) -> None:
        """Equal index and term must mean an equal entry; lengths are compared, for they need no disk."""
        if self._log.entry_command_bytes(idx) != len(command):
            self._log.worker.fail(JournalConflict(f"entry {idx} came again, same term but another command"))

    def _check_whole(self, what: str) -> None:
        if self._replacing is not None:
            self._log.worker.fail(JournalConflict(f"{what} while a snapshot is being loaded"))
