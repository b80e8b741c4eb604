"""Only who knows the cluster's secret gets a word in; frames are bounded."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from cluster.real.handshake import Handshake, HandshakeError
from cluster.real.wire import HELLO_BYTES_MAX, Decoder, FrameError, encode


def _pair(one: bytes = b"s", other: bytes = b"s") -> tuple[Handshake, Handshake]:
    return (
        Handshake(one, dialer=True, hello={"node_id": "n1"}),
        Handshake(other, dialer=False, hello={"node_id": "n2"}),
    )


def test_both_sides_learn_the_other_hello() -> None:
    dialer, acceptor = _pair()
    to_acceptor, to_dialer = dialer.first(), acceptor.first()
    proof, counter_proof = dialer.second(to_dialer), acceptor.second(to_acceptor)
    assert dialer.finish(counter_proof) == {"node_id": "n2"}
    assert acceptor.finish(proof) == {"node_id": "n1"}


def test_another_secret_is_refused_by_both() -> None:
    dialer, acceptor = _pair(other=b"t")
    to_acceptor, to_dialer = dialer.first(), acceptor.first()
    proof, counter_proof = dialer.second(to_dialer), acceptor.second(to_acceptor)
    with pytest.raises(HandshakeError, match="secret differs"):
        dialer.finish(counter_proof)
    with pytest.raises(HandshakeError, match="secret differs"):
        acceptor.finish(proof)


def test_a_reflected_proof_is_refused() -> None:
    """Somebody without the secret sends back what it got."""
    acceptor = Handshake(b"s", dialer=False, hello={"node_id": "n2"})
    first = acceptor.first()
    with pytest.raises(HandshakeError, match="nonce"):
        acceptor.second(first)
    other = Handshake(b"s", dialer=False, hello={"node_id": "n2"})
    proof = other.second(first)
    acceptor.second(other.first())
    with pytest.raises(HandshakeError, match="secret differs"):
        acceptor.finish(proof)


def test_a_changed_hello_is_refused() -> None:
    dialer, acceptor = _pair()
    changed = dialer.first() | {"hello": msgpack.packb({"node_id": "n3"})}
    acceptor.second(changed)
    with pytest.raises(HandshakeError, match="secret differs"):
        acceptor.finish(dialer.second(acceptor.first()))


@pytest.mark.parametrize(
    "first", [None, 7, {}, {"nonce": b"x" * 32}, {"nonce": b"short", "hello": b""}, {"nonce": "x", "hello": b""}]
)
def test_malformed_beginnings_are_refused(first: Any) -> None:
    with pytest.raises(HandshakeError):
        _pair()[0].second(first)


@pytest.mark.parametrize("second", [None, 7, {}, {"proof": "x"}, {"proof": b""}])
def test_malformed_proofs_are_refused(second: Any) -> None:
    dialer, acceptor = _pair()
    dialer.second(acceptor.first())
    with pytest.raises(HandshakeError):
        dialer.finish(second)


def test_frames_survive_any_cut() -> None:
    messages: list[Any] = [{"a": b"x" * 100}, [1, 2], {"b": None}]
    stream = b"".join(map(encode, messages))
    for cut in range(len(stream)):
        decoder = Decoder()
        assert decoder.feed(stream[:cut]) + decoder.feed(stream[cut:]) == messages


def test_strangers_may_not_send_long_frames() -> None:
    decoder = Decoder()
    with pytest.raises(FrameError, match="frame of"):
        decoder.feed((HELLO_BYTES_MAX + 1).to_bytes(4, "big"))
    decoder = Decoder()
    decoder.frame_bytes_max = HELLO_BYTES_MAX * 2
    assert decoder.feed((HELLO_BYTES_MAX + 1).to_bytes(4, "big")) == []


@pytest.mark.parametrize("body", [b"\xc1", b"\x81\x01\x02", b"\xa1", b"\x01\x02", b"", b"\x91" * 2000])
def test_what_is_no_msgpack_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError, match="not msgpack"):
        Decoder().feed(len(body).to_bytes(4, "big") + body)
