"""The bytes of the journal.

A segment file is a segment header and then groups, back to back; a group is a group header and then records.
Every group is one write and one fsync, and counts whole or not at all. Integers are little-endian.

    segment header   magic 8, format version u32, journal id 16, number u64, stream offset u64, crc u32
    group header     marker 8, durable stream offset u64, body bytes u32, crc u32
    record           crc u32, body bytes u32, kind u8, body

A stream offset counts the bytes of all segments ever written, headers included; it never goes back, so it
also tells which of two writes was the later. Checksums of groups and records start from a salt made of the
journal id: no bytes a client can put into a command pass for a group of this journal.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

MAGIC = b"HIVELOG\n"
FORMAT_VERSION = 1
JOURNAL_ID_BYTES = 16
MARKER = b"\xf4GROUP\x00\x8e"

ENTRY = 1
TRUNCATE = 2
RESET = 3
TERM = 4
COMMIT = 5
TRIM = 6
HEAD = 7

_SEGMENT = struct.Struct("<8sI16sQQ")
_GROUP = struct.Struct("<8sQI")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<IIB")
_ENTRY_HEAD = struct.Struct("<IBQQ")
_PREFIX = struct.Struct("<IB")
_INDEX = struct.Struct("<Q")
_INDEX_TERM = struct.Struct("<QQ")
_HEAD = struct.Struct("<QQQQ")
_VOTE = struct.Struct("<H")
_NO_VOTE = 0xFFFF

SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size
GROUP_HEADER_BYTES = _GROUP.size + _CRC.size
RECORD_HEADER_BYTES = _RECORD.size
ENTRY_HEADER_BYTES = RECORD_HEADER_BYTES + _INDEX_TERM.size
HEAD_BYTES_MIN = RECORD_HEADER_BYTES + _HEAD.size + _VOTE.size
VOTE_BYTES_MAX = 1024

# One record of a group: kind, position of its header in the data, body length. A plain tuple: there are millions.
RecordPlace = tuple[int, int, int]


class SegmentHeader(NamedTuple):
    """A segment header as found; `intact` is False when its checksum does not fit."""

    version: int
    journal_id: bytes
    number: int
    base: int
    intact: bool


class GroupHeader(NamedTuple):
    """A group header whose checksum fits."""

    durable_offset: int
    body_bytes: int


class Head(NamedTuple):
    """What a segment says before its first own record, so that the segments before it can be deleted."""

    term: int
    vote: str | None
    commit_index: int
    first_index: int
    next_index: int


def salt_of(journal_id: bytes) -> int:
    """The value that checksums of this journal start from."""
    return crc32(journal_id)


def pack_segment_header(journal_id: bytes, number: int, base: int) -> bytes:
    """SEGMENT_HEADER_BYTES that open segment `number`, whose first byte has stream offset `base`."""
    head = _SEGMENT.pack(MAGIC, FORMAT_VERSION, journal_id, number, base)
    return head + _CRC.pack(crc32(head))


def parse_segment_header(data: bytes) -> SegmentHeader | None:
    """What the first bytes of a file say; None if they are not a segment header at all."""
    if len(data) < SEGMENT_HEADER_BYTES or data[: len(MAGIC)] != MAGIC:
        return None
    _, version, journal_id, number, base = _SEGMENT.unpack_from(data)
    (crc,) = _CRC.unpack_from(data, _SEGMENT.size)
    return SegmentHeader(version, journal_id, number, base, crc == crc32(data[: _SEGMENT.size]))


def pack_group_header(salt: int, durable_offset: int, body_bytes: int) -> bytes:
    """GROUP_HEADER_BYTES that open a group; `durable_offset` is what the log is known to hold for good."""
    head = _GROUP.pack(MARKER, durable_offset, body_bytes)
    return head + _CRC.pack(crc32(head, salt))


def parse_group_header(data: bytes, position: int, salt: int) -> GroupHeader | None:
    """The group header at `position`, or None if there is none that is intact."""
    if len(data) - position < GROUP_HEADER_BYTES:
        return None
    marker, durable_offset, body_bytes = _GROUP.unpack_from(data, position)
    if marker != MARKER:
        return None
    (crc,) = _CRC.unpack_from(data, position + _GROUP.size)
    if crc != crc32(data[position : position + _GROUP.size], salt):
        return None
    return GroupHeader(durable_offset, body_bytes)


def parse_group(data: bytes, position: int, limit: int, salt: int) -> tuple[list[RecordPlace], int] | None:
    """The records of the group at `position` and where it ends; None unless all is intact below `limit`."""
    header = parse_group_header(data, position, salt)
    if header is None:
        return None
    cursor = position + GROUP_HEADER_BYTES
    end = cursor + header.body_bytes
    if end > limit:
        return None
    view = memoryview(data)
    places: list[RecordPlace] = []
    while cursor < end:
        if end - cursor < RECORD_HEADER_BYTES:
            return None
        crc, body_bytes, kind = _RECORD.unpack_from(data, cursor)
        stop = cursor + RECORD_HEADER_BYTES + body_bytes
        if stop > end or crc32(view[cursor + 4 : stop], salt) != crc:
            return None
        places.append((kind, cursor, body_bytes))
        cursor = stop
    return places, end


def pack_entry_header(salt: int, command: bytes, index: int, term: int) -> bytes:
    """The ENTRY_HEADER_BYTES that stand before a command; the command is not copied."""
    head = _ENTRY_HEAD.pack(_INDEX_TERM.size + len(command), ENTRY, index, term)
    return _CRC.pack(crc32(command, crc32(head, salt))) + head


def parse_entry(data: bytes, position: int, salt: int) -> tuple[bytes, int, int] | None:
    """The (command, index, term) at `position`, or None if there is no intact entry."""
    if len(data) - position < ENTRY_HEADER_BYTES:
        return None
    crc, body_bytes, kind = _RECORD.unpack_from(data, position)
    stop = position + RECORD_HEADER_BYTES + body_bytes
    if kind != ENTRY or stop > len(data) or crc32(data[position + 4 : stop], salt) != crc:
        return None
    index, term = _INDEX_TERM.unpack_from(data, position + RECORD_HEADER_BYTES)
    return data[position + ENTRY_HEADER_BYTES : stop], index, term


def entry_index_term(data: bytes, position: int) -> tuple[int, int]:
    """(index, term) of the verified entry record at `position`."""
    index, term = _INDEX_TERM.unpack_from(data, position + RECORD_HEADER_BYTES)
    return index, term


def pack_index(salt: int, kind: int, index: int) -> bytes:
    """A TRUNCATE, RESET, COMMIT or TRIM record."""
    return _pack(salt, kind, _INDEX.pack(index))


def parse_index(data: bytes, position: int) -> int:
    """The index of the verified TRUNCATE, RESET, COMMIT or TRIM record at `position`."""
    (index,) = _INDEX.unpack_from(data, position + RECORD_HEADER_BYTES)
    return int(index)


def pack_term(salt: int, term: int, vote: str | None) -> bytes:
    """A TERM record: the current term and who got this node's vote in it."""
    return _pack(salt, TERM, _INDEX.pack(term) + _pack_vote(vote))


def parse_term(data: bytes, position: int) -> tuple[int, str | None]:
    """(term, vote) of the verified TERM record at `position`."""
    return parse_index(data, position), _parse_vote(data, position + RECORD_HEADER_BYTES + _INDEX.size)


def pack_head(salt: int, head: Head) -> bytes:
    """A HEAD record."""
    fields = _HEAD.pack(head.term, head.commit_index, head.first_index, head.next_index)
    return _pack(salt, HEAD, fields + _pack_vote(head.vote))


def parse_head(data: bytes, position: int) -> Head:
    """The verified HEAD record at `position`."""
    start = position + RECORD_HEADER_BYTES
    term, commit_index, first_index, next_index = _HEAD.unpack_from(data, start)
    return Head(term, _parse_vote(data, start + _HEAD.size), commit_index, first_index, next_index)


def _pack(salt: int, kind: int, body: bytes) -> bytes:
    head = _PREFIX.pack(len(body), kind)
    return _CRC.pack(crc32(body, crc32(head, salt))) + head + body


def _pack_vote(vote: str | None) -> bytes:
    if vote is None:
        return _VOTE.pack(_NO_VOTE)
    name = vote.encode()
    if len(name) > VOTE_BYTES_MAX:
        raise ValueError(f"a node id of {len(name)} bytes is over the limit of {VOTE_BYTES_MAX}")
    return _VOTE.pack(len(name)) + name


def _parse_vote(data: bytes, position: int) -> str | None:
    (length,) = _VOTE.unpack_from(data, position)
    if length == _NO_VOTE:
        return None
    start = position + _VOTE.size
    return data[start : start + length].decode()
