"""A wire that plays a script: what each request meets is written down by the test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hive_client.wire import Cut, NotSent, Reply, Request, Stream

URLS = ("http://n1.invalid", "http://n2.invalid", "http://n3.invalid")
Step = Reply | Exception


def ok(document: Any = None, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    body = json.dumps({} if document is None else document).encode()
    return Reply(status, {"Hive-Revision": "7", "Hive-Cluster": "c1", **(headers or {})}, body, "")


def problem(status: int, code: str, retry: str, headers: Mapping[str, str] | None = None, **extra: Any) -> Reply:
    document = {"type": "about:blank", "title": code, "status": status, "code": code, "retry": retry, **extra}
    return Reply(status, {"Hive-Request-Id": "r1", **(headers or {})}, json.dumps(document).encode(), "")


def cut() -> Cut:
    return Cut("the line broke")


def not_sent() -> NotSent:
    return NotSent("nobody listens")


class ScriptedWire:
    """Answers from ``script`` in order and the last step for ever; ``sent`` is what came, with its endpoint."""

    def __init__(self, *script: Step, streams: Sequence[ScriptedStream | Exception] = ()) -> None:
        self._script = list(script)
        self._streams = list(streams)
        self.sent: list[tuple[str, Request]] = []

    async def send(self, endpoint: str, request: Request, timeout_s: float) -> Reply:
        self.sent.append((endpoint, request))
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, Exception):
            raise step
        return Reply(step.status, step.headers, step.body, endpoint)

    async def open_stream(self, endpoint: str, request: Request, silence_s: float) -> Stream:
        self.sent.append((endpoint, request))
        step = self._streams.pop(0)
        if isinstance(step, Exception):
            raise step
        step.endpoint = endpoint
        return step

    async def close(self) -> None:
        pass


class ScriptedStream:
    """Lines, and then the end of the stream or a cut."""

    def __init__(
        self, *events: list[bytes], status: int = 200, cut_at_end: bool = False, cluster_id: str = "c1"
    ) -> None:
        self._lines = [line for event in events for line in event]
        self._cut_at_end = cut_at_end
        self.status = status
        self.headers: Mapping[str, str] = {"Hive-Cluster": cluster_id}
        self.endpoint = ""
        self.closed = False

    async def line(self) -> bytes | None:
        if self._lines:
            return self._lines.pop(0)
        if self._cut_at_end:
            raise cut()
        return None

    def close(self) -> None:
        self.closed = True
