"""Replies: what a handler answers, and the head that every reply carries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

import msgspec

from cluster.replica import Replica

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
"""A value to JSON bytes."""

NULL = msgspec.Raw(b"null")
GROUP = 0
"""The only Raft group there is today."""


class Reply:
    """A finished answer: bytes, status and headers of its own. Values of headers hold no line ends."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        headers: Sequence[tuple[str, str]] = (),
        content_type: str = "application/json",
    ) -> None:
        self.body = body
        self.status = status
        self.headers = headers
        self.content_type = content_type


Answer = Reply | None
"""What handlers return: a finished reply, or None when a stream has answered."""


def json_reply(value: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Reply:
    """A value as JSON."""
    return Reply(encode(value), status, headers)


def raw(data: bytes | None) -> msgspec.Raw:
    """User's JSON as it goes into a reply; None becomes null."""
    return NULL if data is None else msgspec.Raw(data)


class Heads:
    """Makes the heads of replies; what replies of one millisecond share is made once."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._ms = 0
        self._leader_id: str | None = None
        self._shared = ""
        self._second = 0
        self._date = ""

    def lines(self, request_id: str, revision: int, consistency: str) -> str:
        """The Hive headers, each line ended."""
        now_ms, leader_id = int(time.time() * 1_000), self._replica.leader_id
        if now_ms != self._ms or leader_id != self._leader_id:
            self._ms, self._leader_id = now_ms, leader_id
            self._shared = self._make_shared(now_ms // 1_000)
        return (
            f"{self._shared}Hive-Revision: {revision}\r\nHive-Consistency: {consistency}\r\n"
            f"Hive-Request-Id: {request_id}\r\n"
        )

    def _make_shared(self, second: int) -> str:
        if second != self._second:
            self._second = second
            self._date = f"Date: {formatdate(second, usegmt=True)}\r\n"
        replica, lag_ms = self._replica, self._replica.lag_ms()
        return (
            f"{self._date}Hive-Cluster: {replica.cluster_id}\r\nHive-Group: {GROUP}\r\n"
            f"Hive-Node: {replica.node_id}\r\nHive-Run: {replica.run_id}\r\n"
            f"Hive-Leader: {self._leader_id or ''}\r\nHive-Lag-Ms: {'' if lag_ms is None else lag_ms}\r\n"
        )

    def head(self, reply: Reply, request_id: str, revision: int, consistency: str) -> str:
        """All header lines of a reply, without the line of the status."""
        extra = "".join([f"{name}: {value}\r\n" for name, value in reply.headers])
        return (
            f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n"
            f"{self.lines(request_id, revision, consistency)}{extra}"
        )
