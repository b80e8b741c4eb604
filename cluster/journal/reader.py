"""Entries that are no longer in memory."""

from __future__ import annotations

from cluster.journal.errors import JournalDamaged
from cluster.journal.records import parse_entry
from cluster.journal.segments import Segments, segment_name
from cluster.journal.slices import Entry

READ_AHEAD_BYTES = 128 * 1024


class EntryReader:
    """Reads entry records; keeps the last piece, so that a scan costs one read per READ_AHEAD_BYTES."""

    def __init__(self, segments: Segments, salt: int) -> None:
        self._segments = segments
        self._salt = salt
        self._piece = b""
        self._piece_start = 0

    def read(self, offset: int, length_bytes: int, durable_end: int) -> Entry:
        """The entry whose record has this stream offset and length.

        Nothing at or after `durable_end` is read: it may still change under the piece that is kept. Raises
        OSError, and JournalDamaged when the bytes are not what was written.
        """
        position = offset - self._piece_start
        if position < 0 or position + length_bytes > len(self._piece):
            segment, segment_end = self._segments.locate(offset)
            length = min(max(length_bytes, READ_AHEAD_BYTES), min(segment_end, durable_end) - offset)
            self._piece = self._segments.disk.read(segment_name(segment.number), offset - segment.base, length)
            self._piece_start = offset
            position = 0
        entry = parse_entry(self._piece, position, self._salt)
        if entry is None:
            segment, _ = self._segments.locate(offset)
            raise JournalDamaged(f"{segment_name(segment.number)} at byte {offset - segment.base}")
        return entry
