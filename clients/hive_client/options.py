"""The keyword options that every read and every write takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypedDict

Consistency = Literal["stale", "linearizable"]
QueryValue = str | int | float | bool | Mapping[str, str] | Iterable[str] | None
Query = Mapping[str, QueryValue]


class ReadOptions(TypedDict, total=False):
    """``consistency``: ``stale`` (default; any node, also without quorum) or ``linearizable``.
    ``min_revision``: wait until
    the node has applied it. ``max_lag_ms``: refuse an answer older than that. ``live``: add what only the leader knows.
    ``timeout_s``: for the whole call with all its tries.
    """

    consistency: Consistency
    min_revision: int
    max_lag_ms: int
    live: bool
    timeout_s: float


class WriteOptions(TypedDict, total=False):
    """``idempotency_key``: yours instead of a fresh one; give the same key to repeat the same write.
    ``fence``: for example
    ``task/<id>/<attempt>``; nothing happens if that is no longer current. ``timeout_s``: for the whole call.
    """

    idempotency_key: str
    fence: str
    timeout_s: float


class SignalOptions(TypedDict, total=False):
    """Heartbeat, renew, progress: harmless to repeat, so they carry no key."""

    timeout_s: float
    attempt_timeout_s: float
