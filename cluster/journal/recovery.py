"""Reading a journal back.

What must be decided is whether bytes that do not check are the torn end of a write that nobody relied on, or
damage to what was once durable. A group is only started when everything before it is durable; so an intact
group that stands anywhere BEHIND the bad bytes proves that they were durable. Then the node must not start,
for it would forget what it has acknowledged. With no such proof the bad bytes are cut off.

What stands in the last group that is intact may be nowhere but in the memory of the operating system: an fsync that
failed in an earlier life of the node leaves pages that read as written, count as clean, and are gone with the power. So
the last group is WRITTEN AGAIN before it counts. Nothing else needs that: all before a group was durable when it began,
and after a failed fsync no group begins.

Nothing on the disk is changed before the whole journal has been read and found good.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.journal.errors import JournalDamaged, JournalForeign, JournalVersion
from cluster.journal.options import JournalOptions
from cluster.journal.records import (
    FORMAT_VERSION,
    MARKER,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    parse_group,
    parse_group_header,
    parse_segment_header,
    salt_of,
)
from cluster.journal.replay import Replay
from cluster.journal.segments import Segment, is_zero, segment_name, segment_numbers
from cluster.ports import Disk


@dataclass(frozen=True, slots=True)
class LastGroup:
    """Where the bytes stand that nothing behind them vouches for; with its segment's header if they begin it."""

    segment: int
    offset: int
    data: bytes


@dataclass(slots=True)
class Recovered:
    """A journal as read, and what is to be done on the disk before it is used.

    last: to be written again. cut: (segment number, length) of a torn end. delete: numbers of files to remove:
    torn or half-made spares, and segments before the log's start. end: stream offset of the end. sealed: the last
    segment has no reserved blocks.
    """

    replay: Replay
    segments: list[Segment]
    end: int
    present: set[int]
    delete: list[int] = field(default_factory=list)
    last: LastGroup | None = None
    cut: tuple[int, int] | None = None
    sealed: bool = False


def recover(disk: Disk, journal_id: bytes, options: JournalOptions) -> Recovered:
    """Read every segment. Raises JournalForeign, JournalVersion, JournalDamaged, OSError; changes nothing."""
    return _Recovery(disk, journal_id, options).run()


class _Recovery:
    def __init__(self, disk: Disk, journal_id: bytes, options: JournalOptions) -> None:
        self._disk = disk
        self._journal_id = journal_id
        self._salt = salt_of(journal_id)
        self._options = options
        self._numbers = segment_numbers(disk)

    def run(self) -> Recovered:
        started, behind = self._split()
        chain = self._unbroken(started)
        result = Recovered(Replay(), [], chain[0].base, set(self._numbers))
        for position, segment in enumerate(chain):
            following = chain[position + 1] if position + 1 < len(chain) else None
            if following is not None:
                self._read_full(segment, following, result)
            else:
                self._read_last(segment, result)
        for number in behind:
            self._judge_spare(number, result)
        first = chain[0].number
        result.replay.finish(segment_name(first))
        # Files before a gap are what a crash left of a deletion: `finish` has just found that the log needs
        # none.
        result.delete += [number for number in self._numbers if number < first]
        return result

    def _split(self) -> tuple[list[Segment], list[int]]:
        """The segments up to the last one with a header, and the numbers of the files behind it."""
        headers = {number: self._header(number) for number in self._numbers}
        intact = [number for number, header in headers.items() if header is not None]
        if not intact:
            raise JournalDamaged("no segment has a readable header")
        started: list[Segment] = []
        for number in self._numbers:
            header = headers[number]
            if header is not None:
                started.append(Segment(number, header.base))
            elif number < intact[-1]:
                raise JournalDamaged(f"{segment_name(number)} has no readable header")
        return started, [number for number in self._numbers if number > intact[-1]]

    def _header(self, number: int) -> SegmentHeader | None:
        name = segment_name(number)
        header = parse_segment_header(self._disk.read(name, 0, SEGMENT_HEADER_BYTES))
        if header is None:
            return None
        if header.version > FORMAT_VERSION:
            raise JournalVersion(
                f"{name} has format {header.version}, this release reads up to {FORMAT_VERSION}; "
                "nothing was changed; start this node with the newer release"
            )
        if not header.intact:
            return None
        if header.journal_id != self._journal_id:
            raise JournalForeign(
                f"{name} belongs to journal {header.journal_id.hex()}, not to {self._journal_id.hex()}; "
                "nothing was changed; check the data directory"
            )
        if header.number != number:
            raise JournalDamaged(f"{name} is segment {header.number} under another name")
        return header

    @staticmethod
    def _unbroken(started: list[Segment]) -> list[Segment]:
        """The last run of segments without a gap."""
        position = len(started) - 1
        while position > 0 and started[position - 1].number == started[position].number - 1:
            position -= 1
        return started[position:]

    def _read_full(self, segment: Segment, following: Segment, result: Recovered) -> None:
        """A segment with another behind it: durable to the byte where the other begins."""
        name = segment_name(segment.number)
        length = following.base - segment.base
        data = self._disk.read(name, 0, max(length, 0))
        stopped = self._read_groups(segment, data, result)
        if stopped != length:
            raise JournalDamaged(f"{name} at byte {stopped}, and {length} bytes of it were durable")
        result.segments.append(segment)

    def _read_last(self, segment: Segment, result: Recovered) -> None:
        name = segment_name(segment.number)
        data = self._disk.read(name, 0, self._disk.size(name))
        before = result.end
        stopped = self._read_groups(segment, data, result)
        start_of_bad = segment.base if stopped == SEGMENT_HEADER_BYTES else segment.base + stopped
        self._refuse_if_durable(data, stopped, start_of_bad, name)
        if stopped == SEGMENT_HEADER_BYTES:
            # Only its first write was begun. It goes, and is made again when it is needed.
            if not result.segments:
                raise JournalDamaged(f"{name} is the only segment and holds nothing that is intact")
            result.delete.append(segment.number)
            result.end = before
            return
        result.segments.append(segment)
        if not is_zero(data, stopped):
            result.cut = (segment.number, stopped)
        result.sealed = result.cut is not None or len(data) < self._options.segment_bytes

    def _read_groups(self, segment: Segment, data: bytes, result: Recovered) -> int:
        """Apply the intact groups from the start of a segment; returns the position where they end."""
        position, start = SEGMENT_HEADER_BYTES, 0
        where = segment_name(segment.number)
        while (group := parse_group(data, position, len(data), self._salt)) is not None:
            places, end = group
            result.replay.group(data, places, segment.base, where)
            start = 0 if position == SEGMENT_HEADER_BYTES else position
            position = end
            result.end = segment.base + end
        if position > SEGMENT_HEADER_BYTES:
            result.last = LastGroup(segment.number, start, data[start:position])
        return position

    def _refuse_if_durable(self, data: bytes, position: int, start_of_bad: int, name: str) -> None:
        """Look for an intact group behind the bad bytes at `position` that says they were durable."""
        found = data.find(MARKER, position)
        while found >= 0:
            header = parse_group_header(data, found, self._salt)
            if header is not None and header.durable_offset > start_of_bad:
                raise JournalDamaged(
                    f"{name} at byte {position}, and the log was durable at least "
                    f"{header.durable_offset - start_of_bad} bytes further"
                )
            found = data.find(MARKER, found + 1)

    def _judge_spare(self, number: int, result: Recovered) -> None:
        """A file behind the last one with a header: the empty spare, or a torn beginning."""
        name = segment_name(number)
        if not result.segments or number != result.segments[-1].number + 1:
            # A spare is made only when the segment before it has been written durably.
            raise JournalDamaged(f"{segment_name(number - 1)} has lost its beginning")
        data = self._disk.read(name, 0, self._disk.size(name))
        self._refuse_if_durable(data, 0, result.end, name)
        if len(data) != self._options.segment_bytes or not is_zero(data):
            result.delete.append(number)
