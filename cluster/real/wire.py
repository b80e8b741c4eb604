"""Frames on a peer connection: four bytes of length, then msgpack."""

from __future__ import annotations

import struct
from typing import Any

import msgpack

FRAME_BYTES_MAX = 48 << 20
"""Above the largest append_entries (engine_batch_bytes and one entry)."""

HELLO_BYTES_MAX = 64 << 10
"""Before a peer has proved that it knows the secret."""

_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """What came is no frame."""


def encode(message: Any) -> bytes:
    """One frame."""
    body = msgpack.packb(message, use_bin_type=True)
    return _LENGTH.pack(len(body)) + bytes(body)


class Decoder:
    """Frames out of a stream of bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.frame_bytes_max = HELLO_BYTES_MAX

    def feed(self, data: bytes) -> list[Any]:
        """The frames that are complete now, up to one that is too long; once that is the first, raises FrameError.

        So whoever allows longer ones on the way calls again with nothing.
        """
        buffer = self._data
        buffer += data
        messages: list[Any] = []
        position = 0
        while len(buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, position)
            if length > self.frame_bytes_max:
                if messages:
                    break
                raise FrameError(f"frame of {length} bytes")
            end = position + _LENGTH.size + length
            if end > len(buffer):
                break
            with memoryview(buffer) as view:
                messages.append(_unpack(view[position + _LENGTH.size : end]))
            position = end
        del buffer[:position]
        return messages


def _unpack(body: memoryview) -> Any:
    try:
        with body:
            return msgpack.unpackb(body, raw=False, strict_map_key=True, use_list=True)
    except (ValueError, msgpack.UnpackException, UnicodeDecodeError) as error:
        raise FrameError(f"not msgpack: {error}") from error
