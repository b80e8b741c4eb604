"""One request and one reply of the fake, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hive_client.testing.problems import Problem, invalid

BODY_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True)
class Asked:
    """A request taken apart. ``path`` has the decoded segments after the first slash."""

    method: str
    target: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    labels: tuple[str, ...]
    headers: Mapping[str, str]
    body: bytes

    @property
    def project(self) -> str:
        return self.headers.get("hive-project") or self.query.get("project") or "default"

    @property
    def key(self) -> str | None:
        return self.headers.get("idempotency-key")

    def document(self) -> dict[str, Any]:
        if not self.body:
            return {}
        try:
            document = json.loads(self.body)
        except ValueError as error:
            raise Problem("invalid_request", f"the body is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise Problem("invalid_request", "the body is not a JSON object")
        return document

    def number(self, name: str, default: int | None = None) -> int | None:
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isdecimal():
            raise invalid(name, "must be a number, not negative")
        return int(text)

    def values(self, name: str) -> set[str] | None:
        text = self.query.get(name)
        return None if text is None else set(text.split(","))


@dataclass(frozen=True)
class Answer:
    """What the fake answers."""

    status: int
    document: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        return json.dumps(self.document, separators=(",", ":"), ensure_ascii=False).encode()


def take_apart(method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Asked:
    """A request as the fake reads it."""
    parts = urlsplit(target)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    path = tuple(unquote(part) for part in parts.path.strip("/").split("/"))
    return Asked(
        method=method,
        target=target,
        path=("api", *path[2:]) if path[:2] == ("api", "v1") else path,
        query=dict(pairs),
        labels=tuple(value for name, value in pairs if name == "label"),
        headers={name.lower(): value for name, value in headers.items()},
        body=body or b"",
    )


def page(asked: Asked, items: list[dict[str, Any]], *, newest_first: bool) -> dict[str, Any]:
    """A list reply. The cursor is the position after the last item, bound to path and filters."""
    order = asked.query.get("order", "desc" if newest_first else "asc")
    ordered = items if order == "asc" else items[::-1]
    limit = min(asked.number("limit") or 100, 1000)
    start = _position(asked)
    rest = ordered[start : start + limit]
    more = start + limit < len(ordered)
    return {"items": rest, "next_cursor": f"{start + limit}.{_filters(asked)}" if more else None}


def _position(asked: Asked) -> int:
    cursor = asked.query.get("cursor")
    if cursor is None:
        return 0
    position, _, filters = cursor.partition(".")
    if not position.isdecimal() or filters != _filters(asked):
        raise Problem("invalid_cursor", "the cursor belongs to other filters")
    return int(position)


def _filters(asked: Asked) -> str:
    relevant = sorted(
        (k, v) for k, v in asked.query.items() if k not in {"cursor", "limit", "timeout_ms", "min_revision"}
    )
    return str(sum(map(ord, repr((asked.path, asked.project, relevant)))))
