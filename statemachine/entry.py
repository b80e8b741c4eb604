"""The format of a log entry: one batch of commands from possibly many proposers.

    entry   := header batch*
    header  := format u8 | state_version u16 | time_ms u64 | term u64 | batch_count u32          (big endian)
    batch   := proposer_run u64 | sequence u64 | frame_count u32 | byte_length u32 | frame*
    frame   := msgpack array, see `Frame`

The leader writes the header; batches travel from proposer to every log as the same bytes. Numbers are never
reused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from statemachine import commands, limits

ENTRY_FORMAT = 1
STATE_VERSION = 1

_HEADER = struct.Struct(">BHQQI")
_BATCH = struct.Struct(">QQII")


class MalformedEntryError(Exception):
    """The bytes are not an entry of this format. They came out of the log, so the node stops: never skip
    one."""


class Fence(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A condition of the write (`Hive-Fence`): `kind` is task, agent or lock; `number` its attempt, epoch or
    token."""

    kind: str
    resource_id: str
    number: int


class Idempotency(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An Idempotency-Key: hash of principal and key (16 bytes), digest of the request (16 bytes), UUIDv7 time
    or 0, lifetime."""

    key_hash: bytes
    digest: bytes
    uuid7_ms: int
    ttl_ms: int


class Frame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One command on its way through the log.

    `number` and `version` name the payload's type (`commands.COMMANDS`). `project` and `principal` are what
    the edge established. Every id and random number in the payload was chosen before this frame was made.
    """

    number: int
    version: int
    project: str
    principal: str
    request_id: str
    idempotency: Idempotency | None
    fence: Fence | None
    encryption_key_id: int
    flags: int
    payload: msgspec.Raw


FLAG_CREATE_PROJECT = 1
"""The command may create its project (`auto_create_projects` at the node that proposed it)."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the leader stamps on an entry. `time_ms` never goes back from entry to entry."""

    time_ms: int
    term: int
    state_version: int = STATE_VERSION


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands one proposer sent together; (proposer_run, sequence) is unique for ever."""

    proposer_run: int
    sequence: int
    frames: tuple[Frame, ...]


# Invalid UTF-8 is no DecodeError to msgspec.
_UNREADABLE = (struct.error, msgspec.DecodeError, UnicodeDecodeError)

_frame_encoder = msgspec.msgpack.Encoder()
_frames_decoder = msgspec.msgpack.Decoder(tuple[Frame, ...])


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one frame."""
    return _frame_encoder.encode(frame)


def encode_batch(proposer_run: int, sequence: int, frames: Sequence[bytes]) -> bytes:
    """A batch of already encoded frames."""
    body = array_header(len(frames)) + b"".join(frames)
    return _BATCH.pack(proposer_run, sequence, len(frames), len(body)) + body


def batch_identity(batch: bytes) -> tuple[int, int]:
    """(proposer_run, sequence) of an encoded batch."""
    run, sequence, _, _ = _BATCH.unpack_from(batch)
    return run, sequence


def batch_frame_count(batch: bytes) -> int:
    """How many frames an encoded batch holds."""
    _, _, count, _ = _BATCH.unpack_from(batch)
    return int(count)


def check_batch(batch: bytes) -> str | None:
    """What is wrong with a batch that came over the wire, or None. Never lets a malformed one into a log."""
    if len(batch) > limits.ENTRY_BYTES_MAX:
        return f"batch of {len(batch)} bytes is over {limits.ENTRY_BYTES_MAX}"
    try:
        parsed, end = _decode_batch(batch, 0)
    except (*_UNREADABLE, RecursionError, MalformedEntryError) as error:
        return f"malformed batch: {error}"
    if end != len(batch):
        return "trailing bytes after the batch"
    if len(parsed.frames) > limits.ENTRY_COMMANDS_MAX:
        return f"batch of {len(parsed.frames)} commands is over {limits.ENTRY_COMMANDS_MAX}"
    for frame in parsed.frames:
        if not commands.is_known(frame.number, frame.version):
            return f"command {frame.number} version {frame.version} is unknown here: it would stop every node"
        if commands.is_membership(frame.number):
            return f"command {frame.number} changes the membership: the leader alone makes such entries"
    return None


def encode_entry(header: Header, batches: Iterable[bytes]) -> bytes:
    """An entry of already encoded batches."""
    parts = list(batches)
    head = _HEADER.pack(ENTRY_FORMAT, header.state_version, header.time_ms, header.term, len(parts))
    return head + b"".join(parts)


def decode_header(entry: bytes) -> Header:
    """The header alone. Raises MalformedEntryError."""
    return _decode_header(entry)[0]


def decode_entry(entry: bytes) -> tuple[Header, list[Batch]]:
    """The whole entry. Raises MalformedEntryError."""
    header, count = _decode_header(entry)
    batches: list[Batch] = []
    position = _HEADER.size
    try:
        for _ in range(count):
            batch, position = _decode_batch(entry, position)
            batches.append(batch)
    except _UNREADABLE as error:
        raise MalformedEntryError(str(error)) from error
    if position != len(entry):
        raise MalformedEntryError(f"{len(entry) - position} bytes after the last batch")
    return header, batches


def _decode_header(entry: bytes) -> tuple[Header, int]:
    if len(entry) < _HEADER.size:
        raise MalformedEntryError(f"{len(entry)} bytes are no entry")
    entry_format, state_version, time_ms, term, count = _HEADER.unpack_from(entry)
    if entry_format != ENTRY_FORMAT:
        raise MalformedEntryError(f"entry format {entry_format}; this node knows {ENTRY_FORMAT}: upgrade it")
    return Header(time_ms, term, state_version), count


def _decode_batch(data: bytes, position: int) -> tuple[Batch, int]:
    run, sequence, count, length = _BATCH.unpack_from(data, position)
    start = position + _BATCH.size
    end = start + length
    if end > len(data):
        raise MalformedEntryError("batch runs over the end of the entry")
    frames = _frames_decoder.decode(memoryview(data)[start:end])
    if len(frames) != count:
        raise MalformedEntryError(f"{len(frames)} frames where {count} were announced")
    return Batch(run, sequence, frames), end


def array_header(count: int) -> bytes:
    """How msgpack begins an array of so many."""
    if count < 16:
        return bytes([0x90 | count])
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
