"""From files to a log that may be written."""

from __future__ import annotations

from cluster.journal.errors import RESTORE, JournalExists, JournalMissing
from cluster.journal.log import DurableLog
from cluster.journal.options import JournalOptions
from cluster.journal.records import (
    GROUP_HEADER_BYTES,
    HEAD_BYTES_MIN,
    JOURNAL_ID_BYTES,
    SEGMENT_HEADER_BYTES,
    salt_of,
)
from cluster.journal.recovery import Recovered, recover
from cluster.journal.replay import Replay
from cluster.journal.segments import Segments, is_zero, segment_name, segment_numbers
from cluster.journal.worker import Worker
from cluster.journal.writer import GroupWriter
from cluster.ports import Clock, Disk

_UNUSED_BYTES = SEGMENT_HEADER_BYTES + GROUP_HEADER_BYTES + HEAD_BYTES_MIN


def open_log(disk: Disk, journal_id: bytes, options: JournalOptions, clock: Clock, *, create: bool) -> DurableLog:
    """Recover or make the log, and make it durable; see `Journal.open`. Blocks."""
    if len(journal_id) != JOURNAL_ID_BYTES:
        raise ValueError(f"a journal id has {JOURNAL_ID_BYTES} bytes")
    if create:
        recovered = _prepare_new(disk)
    else:
        if not segment_numbers(disk):
            raise JournalMissing(f"the log directory holds no segment; {RESTORE}")
        recovered = recover(disk, journal_id, options)
    _repair(disk, recovered)
    worker = Worker()
    segments = Segments(disk, worker, options, recovered.segments, recovered.present, sealed=recovered.sealed)
    roll_at_bytes = options.segment_bytes - options.roll_reserve_bytes
    writer = GroupWriter(worker, segments, clock, journal_id=journal_id, end=recovered.end, roll_at_bytes=roll_at_bytes)
    replay = recovered.replay
    log = DurableLog(
        worker=worker,
        writer=writer,
        segments=segments,
        table=replay.table,
        hard=replay.hard,
        salt=salt_of(journal_id),
        options=options,
    )
    # The first group says that all before it is durable, which `_repair` has seen to: from here on the node
    # may acknowledge what was recovered, so damage to any of it must be noticed.
    writer.flush_blocking(mark=True)
    if not segments.spare_ready:
        segments.prepare_spare()
    return log


def _prepare_new(disk: Disk) -> Recovered:
    """An empty log; what a creation that did not get to its end has left is removed."""
    numbers = segment_numbers(disk)
    for number in numbers:
        data = disk.read(segment_name(number), 0, disk.size(segment_name(number)))
        if not is_zero(data, 0 if number else _UNUSED_BYTES):
            raise JournalExists(
                f"a new log was asked for, but {segment_name(number)} is in use; nothing was changed; "
                "choose an empty data directory"
            )
    return Recovered(Replay(), [], 0, set(numbers), delete=numbers)


def _repair(disk: Disk, recovered: Recovered) -> None:
    """Cut and delete what recovery found, write its end again, and fsync what stays."""
    if recovered.cut is not None:
        number, length = recovered.cut
        disk.truncate(segment_name(number), length)
    for number in recovered.delete:
        disk.delete(segment_name(number))
        recovered.present.discard(number)
    if recovered.last is not None:
        last = recovered.last
        disk.write(segment_name(last.segment), last.offset, last.data)
        disk.sync(segment_name(last.segment))
    disk.sync_directory()
