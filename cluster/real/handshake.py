"""How two members prove to each other that they know the cluster's secret, before anything else is read.

    both:  -> {nonce, hello}
    both:  -> {proof: HMAC-SHA256(secret, role | other's nonce | own nonce | own hello)}

The role (dialer or acceptor) is in the proof, so that a proof cannot be reflected. The hello is covered by it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

import msgpack

NONCE_BYTES = 32


class HandshakeError(Exception):
    """The peer is not let in; the text says why."""


class Handshake:
    """One side of one handshake."""

    def __init__(self, secret: bytes, *, dialer: bool, hello: dict[str, Any]) -> None:
        self._secret = secret
        self._dialer = dialer
        self._hello = msgpack.packb(hello, use_bin_type=True)
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._other_nonce = b""
        self._other_hello = b""

    def first(self) -> dict[str, Any]:
        """What this side sends first."""
        return {"nonce": self._nonce, "hello": self._hello}

    def second(self, first: Any) -> dict[str, Any]:
        """What this side sends after the other's first. Raises HandshakeError."""
        if type(first) is not dict or type(first.get("nonce")) is not bytes or type(first.get("hello")) is not bytes:
            raise HandshakeError("no handshake")
        if len(first["nonce"]) != NONCE_BYTES or first["nonce"] == self._nonce:
            raise HandshakeError("bad nonce")
        self._other_nonce, self._other_hello = first["nonce"], first["hello"]
        return {"proof": self._proof(self._dialer, self._other_nonce, self._nonce, self._hello)}

    def finish(self, second: Any) -> dict[str, Any]:
        """The other side's hello, now proven. Raises HandshakeError."""
        if type(second) is not dict:
            raise HandshakeError("no handshake")
        proof = second.get("proof")
        expected = self._proof(not self._dialer, self._nonce, self._other_nonce, self._other_hello)
        if type(proof) is not bytes or not hmac.compare_digest(proof, expected):
            raise HandshakeError("the cluster secret differs: give all nodes the same --cluster-secret-file")
        try:
            hello = msgpack.unpackb(self._other_hello, raw=False)
        except (ValueError, msgpack.UnpackException) as error:
            raise HandshakeError(f"no hello: {error}") from error
        if type(hello) is not dict or type(hello.get("node_id")) is not str:
            raise HandshakeError("no hello")
        return hello

    def _proof(self, dialer: bool, other_nonce: bytes, own_nonce: bytes, hello: bytes) -> bytes:
        role = b"hive-dialer" if dialer else b"hive-acceptor"
        return hmac.digest(self._secret, role + other_nonce + own_nonce + hashlib.sha256(hello).digest(), "sha256")
