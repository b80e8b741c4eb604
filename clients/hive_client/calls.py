"""Turns a noun's method into a request: path, query, body, headers, deadlines. Shared by all nouns of one client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

from hive_client.idempotency import uuid7
from hive_client.options import Query, QueryValue, ReadOptions, WriteOptions
from hive_client.transport import Deadlines, Transport
from hive_client.wire import Reply, Request

# The server's own default for ``timeout_ms``: it is sent only when another is wanted.
SERVER_TIMEOUT_MS = 5000
# What a node gets beyond its own timeout to say so, before it counts as silent.
ANSWER_MARGIN_S = 2.0


@dataclass(slots=True)
class SeenRevision:
    """The highest revision this client wrote, per project; void once the cluster is another one."""

    cluster_id: str = ""
    by_project: dict[str, int] = field(default_factory=dict)

    def note(self, project: str, reply: Reply) -> None:
        cluster_id = reply.headers.get("Hive-Cluster", "")
        if cluster_id != self.cluster_id:
            self.cluster_id = cluster_id
            self.by_project.clear()
        self.by_project[project] = max(self.by_project.get(project, 0), reply.revision)


@dataclass(frozen=True, slots=True)
class Calls:
    """How this client calls: its project, its timeouts, its session guarantee."""

    transport: Transport
    project: str = "default"
    timeout_s: float = 30.0
    read_your_writes: bool = True
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a token
    seen: SeenRevision = field(default_factory=SeenRevision)

    def in_project(self, project: str) -> Calls:
        return replace(self, project=project)

    async def about(self, path: str) -> Reply:
        """A GET of what does not come from the state, so that no option of a read has a meaning."""
        return await self.transport.call(
            Request("GET", target(path), self._headers()), self._deadlines(self.timeout_s, 0.0)
        )

    async def read(
        self,
        path: str,
        query: Query | None = None,
        options: ReadOptions | None = None,
        *,
        of_project: bool = True,
    ) -> Reply:
        """A GET; sent again to any node until ``timeout_s`` is over. ``of_project``: shows what writes changed."""
        options = options or {}
        timeout_s = options.get("timeout_s", self.timeout_s)
        wanted: dict[str, QueryValue] = {**(query or {})}
        wanted["consistency"] = options.get("consistency")
        wanted["min_revision"] = options.get("min_revision")
        wanted["max_lag_ms"] = options.get("max_lag_ms")
        wanted["live"] = options.get("live")
        follows = self.read_your_writes and of_project and wanted["consistency"] != "linearizable"
        if follows and wanted["min_revision"] is None:
            wanted["min_revision"] = self.seen.by_project.get(self.project)
        request = Request("GET", target(path, {**wanted, **_server_timeout(timeout_s)}), self._headers())
        wait = wanted.get("wait_ms")
        wait_s = wait / 1000 if isinstance(wait, int) else 0.0
        reply = await self.transport.call(request, self._deadlines(timeout_s, wait_s))
        if reply.headers.get("Hive-Cluster", self.seen.cluster_id) != self.seen.cluster_id:
            self.seen.by_project.clear()
        return reply

    async def write(
        self,
        method: str,
        path: str,
        body: Any = None,
        options: WriteOptions | None = None,
        *,
        query: Query | None = None,
        wait_s: float = 0.0,
    ) -> Reply:
        """A write under an Idempotency-Key: all tries together, and a repeat with the same key, have one effect."""
        options = options or {}
        timeout_s = options.get("timeout_s", self.timeout_s)
        key = options.get("idempotency_key") or uuid7()
        headers = self._headers()
        headers["Idempotency-Key"] = key
        if fence := options.get("fence"):
            headers["Hive-Fence"] = fence
        request = Request(
            method, target(path, {**(query or {}), **_server_timeout(timeout_s)}), headers, encode(body), key=key
        )
        reply = await self.transport.call(request, self._deadlines(timeout_s, wait_s))
        self.seen.note(self.project, reply)
        return reply

    async def signal(
        self,
        path: str,
        body: Any,
        *,
        wait_s: float = 0.0,
        timeout_s: float | None = None,
        attempt_timeout_s: float | None = None,
    ) -> Reply:
        """A POST that is harmless to repeat and needs no key: heartbeat, renew, progress."""
        deadlines = self._deadlines(self.timeout_s if timeout_s is None else timeout_s, wait_s)
        if attempt_timeout_s is not None:
            deadlines = replace(deadlines, attempt_timeout_s=attempt_timeout_s + wait_s)
        return await self.transport.call(Request("POST", target(path), self._headers(), encode(body)), deadlines)

    async def ask_endpoint(self, endpoint: str, path: str, query: Query | None = None) -> Reply:
        """A GET to one named node, whatever it answers."""
        request = Request("GET", target(path, query), self._headers())
        return await self.transport.call_endpoint(endpoint, request, self.timeout_s)

    def stream_request(self, path: str, query: Query) -> Request:
        headers = self._headers()
        headers["Accept"] = "text/event-stream"
        return Request("GET", target(path, query), headers)

    def _headers(self) -> dict[str, str]:
        return {
            **self.headers,
            "Hive-Project": self.project,
            "Content-Type": "application/json",
            "Hive-Request-Id": uuid7(),
        }

    def _deadlines(self, timeout_s: float, wait_s: float) -> Deadlines:
        server_s = min(timeout_s, SERVER_TIMEOUT_MS / 1000)
        return Deadlines(timeout_s + wait_s, server_s + wait_s + ANSWER_MARGIN_S)


def segment(identifier: str) -> str:
    """An id as one path segment. What could change the route never leaves; the rest is the server's to judge."""
    if identifier in {"", ".", ".."}:
        raise ValueError(f"{identifier!r} is not an id")
    return quote(identifier, safe="")


def target(path: str, query: Query | None = None) -> str:
    """Path with query: None left out, booleans as true/false, lists with commas, mappings as repeated ``name=k=v``."""
    pairs: list[tuple[str, str]] = []
    for name, value in (query or {}).items():
        if isinstance(value, Mapping):
            pairs += [(name, f"{key}={text}") for key, text in value.items()]
        elif value is not None:
            pairs.append((name, _text(value)))
    return f"{path}?{urlencode(pairs, quote_via=quote)}" if pairs else path


def _text(value: str | float | Iterable[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return ",".join(value)


def encode(body: Any) -> bytes | None:
    """Compact JSON; NaN and infinity are not JSON and are refused here."""
    if body is None:
        return None
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def without_none(**fields: Any) -> dict[str, Any]:
    """The fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}


def _server_timeout(timeout_s: float) -> dict[str, QueryValue]:
    # The query is part of what an Idempotency-Key covers, so it must not depend on the time that is left.
    timeout_ms = max(1, int(timeout_s * 1000))
    return {"timeout_ms": timeout_ms} if timeout_ms < SERVER_TIMEOUT_MS else {}
