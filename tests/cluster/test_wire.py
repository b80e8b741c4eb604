"""Frames: what a chunk of bytes may hold, and what a stranger may make this node allocate."""

from __future__ import annotations

import pytest

from cluster.real.wire import FRAME_BYTES_MAX, HELLO_BYTES_MAX, Decoder, FrameError, encode


def test_a_long_frame_behind_the_handshakes_last_is_left_to_who_allows_it() -> None:
    """A busy node reads the end of a handshake and the first message in one chunk."""
    decoder = Decoder()
    long = {"entries": b"x" * (HELLO_BYTES_MAX + 1)}
    assert decoder.feed(encode({"welcome": True}) + encode(long)) == [{"welcome": True}]
    decoder.frame_bytes_max = FRAME_BYTES_MAX
    assert decoder.feed(b"") == [long]
    assert decoder.feed(b"") == []


def test_nobody_has_to_allow_it() -> None:
    decoder = Decoder()
    assert decoder.feed(encode(1) + encode(bytes(HELLO_BYTES_MAX + 1))) == [1]
    with pytest.raises(FrameError, match="frame of"):
        decoder.feed(b"")


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xdd\x00\x01\x00\x00" * 100,
        b"\x81\xc0\x01",
        b"\xa1\xff",
    ],
)
def test_lengths_that_promise_more_than_is_there(body: bytes) -> None:
    with pytest.raises(FrameError, match="not msgpack"):
        Decoder().feed(len(body).to_bytes(4, "big") + body)


def test_every_byte_alone() -> None:
    decoder = Decoder()
    stream = encode({"a": [1, None, b"x"]}) + encode("end")
    messages = [message for byte in stream for message in decoder.feed(bytes([byte]))]
    assert messages == [{"a": [1, None, b"x"]}, "end"]
