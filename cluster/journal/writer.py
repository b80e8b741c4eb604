"""Groups of records on their way to the disk.

Records are appended to a buffer; a flush seals the buffer into one group, which is written and fsynced by the
executor while the next buffer fills. One group is in flight at a time, so a group is only ever started when
everything before it is durable: its header can say so, and that is how damage is told from a torn tail later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cluster.journal.records import GROUP_HEADER_BYTES, pack_group_header, pack_segment_header, salt_of
from cluster.journal.segments import Segment, Segments, segment_name
from cluster.journal.worker import Step, Worker
from cluster.ports import Clock


@dataclass(slots=True, eq=False)
class Group:
    """One write: `data` at `file_offset` of `segment`, after which the stream ends at `end`.

    keep_from: stream offset before which nothing is needed once this group is durable.
    """

    segment: Segment
    file_offset: int
    data: bytes
    end: int
    sequence: int
    since_s: float
    keep_from: int
    starts_segment: bool
    started_s: float = 0.0


class GroupOwner(Protocol):
    """The log whose records these are."""

    def head_record(self) -> bytes:
        """The HEAD record of a segment that begins now."""

    def before_seal(self) -> int:
        """Append what was put off until the next group; returns the group's `keep_from`."""

    def group_durable(self, group: Group) -> None:
        """The group is durable; called before anybody else hears of it."""


class GroupWriter:
    """Buffer, group in flight, durable end.

    written_sequence and durable_sequence number the records; both only grow, and say nothing about indexes.
    """

    def __init__(
        self,
        worker: Worker,
        segments: Segments,
        clock: Clock,
        *,
        journal_id: bytes,
        end: int,
        roll_at_bytes: int,
    ) -> None:
        self._worker = worker
        self._segments = segments
        self._journal_id = journal_id
        self._salt = salt_of(journal_id)
        self._clock = clock
        self._roll_at_bytes = roll_at_bytes
        self._owner: GroupOwner | None = None
        self._on_durable: Callable[[], None] | None = None
        self._on_fsync: Callable[[float], None] | None = None

        self.end = end
        self.durable_end = end
        self.written_sequence = 0
        self.durable_sequence = 0
        self.fsyncs = 0
        self.last_fsync_s = 0.0
        self.total_fsync_s = 0.0

        self._chunks: list[bytes] = []
        self._group_start = 0
        self._body_start = 0
        self._since_s = 0.0
        self._starts_segment = False
        self._in_flight: Group | None = None

    def attach(self, owner: GroupOwner) -> None:
        """Name the log; before anything else."""
        self._owner = owner

    def bind(self, on_durable: Callable[[], None], on_fsync: Callable[[float], None] | None) -> None:
        """Call these whenever a group has become durable: the observer of fsync seconds first."""
        self._on_durable = on_durable
        self._on_fsync = on_fsync

    @property
    def oldest_unsynced_since_s(self) -> float | None:
        """When the oldest record that is not durable was added, monotonic; None if all are durable."""
        if self._in_flight is not None:
            return self._in_flight.since_s
        return self._since_s if self._chunks else None

    def append(self, head: bytes, body: bytes = b"") -> int:
        """Buffer one record; returns its stream offset."""
        if self._worker.error is not None:
            self._worker.check()
        if not self._chunks:
            self._begin()
        offset = self.end
        self._chunks.append(head)
        if body:
            self._chunks.append(body)
        self.end = offset + len(head) + len(body)
        self.written_sequence += 1
        return offset

    def flush(self) -> None:
        """Start one group if records wait and none is in flight; the following ones start by themselves."""
        if self._in_flight is None and self._chunks and self._worker.error is None:
            group = self._in_flight = self._seal()
            group.started_s = self._clock.monotonic_s()
            done = partial(self._done, group)
            if group.starts_segment:
                self._worker.submit(self._steps(group), done)
            else:
                segment = segment_name(group.segment.number)
                self._worker.write(self._segments.disk, segment, group.file_offset, group.data, done)

    def flush_blocking(self, *, mark: bool) -> None:
        """Make everything durable on this thread; with `mark`, end with a group that vouches for the rest.

        A group in flight is written once more: the same bytes at the same place, so it does not matter what
        the worker has done of it, or does later.
        """
        if self._in_flight is not None:
            group, self._in_flight = self._in_flight, None
            self._run_here(group)
        if self._chunks:
            self._run_here(self._seal())
        if mark:
            self._begin()
            self._run_here(self._seal())

    def _begin(self) -> None:
        """Open a group, in a new segment when the current one is nearly full."""
        assert self._owner is not None
        segment = self._segments.last
        self._starts_segment = segment is None or self._segments.sealed or self.end - segment.base > self._roll_at_bytes
        self._since_s = self._clock.monotonic_s()
        self._group_start = self.end
        before, after = b"", b""
        if self._starts_segment:
            # What the segment repeats is the state before this group's own records.
            after = self._owner.head_record()
            segment = self._segments.start_next(self.end)
            before = pack_segment_header(self._journal_id, segment.number, segment.base)
        # The group's header is known when the group is sealed.
        self._chunks = [before, b"", after]
        self._body_start = self._group_start + len(before) + GROUP_HEADER_BYTES
        self.end = self._body_start + len(after)

    def _seal(self) -> Group:
        assert self._owner is not None
        segment = self._segments.last
        assert segment is not None
        assert self._group_start == self.durable_end, "a group may only start when all before it is durable"
        keep_from = self._owner.before_seal()
        body_bytes = self.end - self._body_start
        self._chunks[1] = pack_group_header(self._salt, self.durable_end, body_bytes)
        group = Group(
            segment=segment,
            file_offset=self._group_start - segment.base,
            data=b"".join(self._chunks),
            end=self.end,
            sequence=self.written_sequence,
            since_s=self._since_s,
            keep_from=keep_from,
            starts_segment=self._starts_segment,
        )
        self._chunks = []
        return group

    def _steps(self, group: Group) -> list[Step]:
        disk = self._segments.disk
        name = segment_name(group.segment.number)
        steps: list[Step] = [partial(disk.write, name, group.file_offset, group.data), partial(disk.sync, name)]
        if group.starts_segment:
            return [partial(self._segments.ensure, group.segment.number), *steps, disk.sync_directory]
        return steps

    def _done(self, group: Group) -> None:
        if group is not self._in_flight:
            return  # a blocking flush has taken it over
        self._in_flight = None
        self._settle(group)
        self.flush()
        if self._on_durable is not None:
            self._on_durable()

    def _run_here(self, group: Group) -> None:
        group.started_s = self._clock.monotonic_s()
        self._worker.run_here(self._steps(group))
        self._settle(group)

    def _settle(self, group: Group) -> None:
        assert self._owner is not None
        self.durable_end = group.end
        self.durable_sequence = group.sequence
        self.fsyncs += 1
        # Until this thread hears of it: that is what writes wait for.
        self.last_fsync_s = self._clock.monotonic_s() - group.started_s
        self.total_fsync_s += self.last_fsync_s
        if self._on_fsync is not None:
            self._on_fsync(self.last_fsync_s)
        if group.starts_segment:
            self._segments.begun(group.segment.number)
        self._owner.group_durable(group)
