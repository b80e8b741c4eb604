"""Errors as problem documents (RFC 9457): one table from code to status, title and what the client may do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from cluster.replica import (
    CallFailedError,
    MembershipRefusedError,
    NotCommittedError,
    OutcomeUnknownError,
    TooStaleError,
)
from node.api import times
from statemachine import limits
from statemachine.outcome import Refusal

CONTENT_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """What a code stands for; `retry` is `no`, `safe` (it did not happen) or `same_key` (unknown)."""

    status: int
    title: str
    retry: str


KINDS: dict[str, Kind] = {
    "invalid_request": Kind(400, "The request is not valid", "no"),
    "invalid_cursor": Kind(400, "The cursor does not belong to this list", "no"),
    "unauthenticated": Kind(401, "Who is asking is not known", "no"),
    "forbidden": Kind(403, "This is not permitted", "no"),
    "not_found": Kind(404, "There is no such resource", "no"),
    "unknown_project": Kind(404, "There is no such project", "no"),
    "method_not_allowed": Kind(405, "The resource does not know this method", "no"),
    "unsupported_media_type": Kind(415, "The body must be application/json", "no"),
    "conflict": Kind(409, "The resource is in another state", "no"),
    "exists": Kind(409, "The resource exists with other content", "no"),
    "stale_attempt": Kind(409, "This attempt is no longer current", "no"),
    "stale_epoch": Kind(409, "This epoch is no longer current", "no"),
    "stale_token": Kind(409, "This token is no longer current", "no"),
    "sequence_mismatch": Kind(409, "The log has moved on", "no"),
    "condition_failed": Kind(409, "A condition does not hold", "no"),
    "lock_held": Kind(409, "The lock is held", "no"),
    "agent_unavailable": Kind(409, "The agent cannot take this now", "no"),
    "membership_busy": Kind(409, "Another change of membership is under way", "no"),
    "quorum_at_risk": Kind(409, "This would lose quorum", "no"),
    "node_id_used": Kind(409, "The node id was used before", "no"),
    "idempotency_key_expired": Kind(409, "The record of this key is gone", "no"),
    "compacted": Kind(410, "This revision is no longer kept", "no"),
    "cluster_restored": Kind(410, "The cluster was restored from a backup", "no"),
    "too_large": Kind(413, "Something is too large", "no"),
    "idempotency_key_reused": Kind(422, "The key was used for another request", "no"),
    "rate_limited": Kind(429, "Too many requests", "safe"),
    "queue_full": Kind(429, "A limit is reached", "safe"),
    "internal": Kind(500, "The node met a defect", "same_key"),
    "not_enabled": Kind(501, "This is not enabled here", "no"),
    "no_leader": Kind(503, "There is no leader", "safe"),
    "overloaded": Kind(503, "Too much is waiting", "safe"),
    "too_stale": Kind(503, "This node is not fresh enough", "safe"),
    "read_only": Kind(503, "Nothing can be written now", "safe"),
    "shutting_down": Kind(503, "The node is stopping", "safe"),
    "outcome_unknown": Kind(504, "Whether it happened is not known", "same_key"),
}

RETRY_AFTER_MS: dict[str, int] = {
    "no_leader": 200,
    "overloaded": 100,
    "too_stale": 100,
    "shutting_down": 1_000,
    "rate_limited": 1_000,
    "queue_full": 1_000,
    "read_only": 5_000,
}
"""What is advised where the one who refused gave no figure of his own."""

PROMOTED: dict[str, tuple[str, ...]] = {
    "sequence_mismatch": ("last_seq",),
    "compacted": ("oldest_revision",),
    "lock_held": ("holders",),
    "agent_unavailable": ("why",),
    "too_large": ("limit_name", "limit_bytes"),
    "condition_failed": ("failed",),
}
"""Members of `current` that API.md puts beside the code."""


MEMBERSHIP_CODES: dict[str, str] = {"id_used": "node_id_used", "not_caught_up": "conflict"}
"""Refusals of a change of members whose code is another one in API.md."""


class FieldError(NamedTuple):
    """What is wrong where: `path` as in `items[3].priority`."""

    path: str
    message: str


class Problem(Exception):  # noqa: N818 - a problem is an answer, not an error of the program
    """Ends the request with this code. `extra` are further top-level members, `headers` further reply headers."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        current: Any = None,
        retry_after_ms: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        revision: int | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = KINDS[code]
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.current = current
        self.retry_after_ms = RETRY_AFTER_MS.get(code) if retry_after_ms is None else retry_after_ms
        self.headers = tuple(headers)
        self.revision = revision
        self.extra = extra

    def document(self, instance: str) -> dict[str, Any]:
        """The members of the problem document; `instance` is what was asked for."""
        members: dict[str, Any] = {
            "type": f"urn:hive:problem:{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "retry": self.kind.retry,
        }
        if self.errors:
            members["errors"] = [{"path": error.path, "message": error.message} for error in self.errors]
        if self.current is not None:
            members["current"] = self.current
        if self.retry_after_ms is not None:
            members["retry_after_ms"] = self.retry_after_ms
        members.update(self.extra)
        return members


def invalid(path: str, message: str) -> Problem:
    """400 for one field: `message` continues a sentence that begins with the field."""
    return Problem("invalid_request", f"{path}: {message}", errors=(FieldError(path, message),))


def too_large(limit_name: str, limit_bytes: int, path: str | None = None) -> Problem:
    """413 for what is over a limit of bytes."""
    what = "the request" if path is None else path
    errors = () if path is None else (FieldError(path, f"is over {limit_bytes} bytes"),)
    return Problem(
        "too_large",
        f"{what} is over {limit_bytes} bytes",
        errors=errors,
        limit_name=limit_name,
        limit_bytes=limit_bytes,
    )


def from_refusal(refusal: Refusal, revision: int) -> Problem:
    """What the state machine refused, as the user sees it. A code it made up would be a defect: `internal`."""
    code = refusal.code if refusal.code in KINDS else "internal"
    current = None if refusal.current is None else times.outside(refusal.current)
    promoted = PROMOTED.get(code, ())
    extra = {name: current[name] for name in promoted if current is not None and name in current}
    return Problem(code, refusal.detail, current=current, revision=revision, **extra)


def from_replica(error: Exception) -> Problem:
    """What the replica could not do."""
    if isinstance(error, NotCommittedError):
        if error.code == "too_large":
            return too_large("entry_bytes_max", limits.ENTRY_BYTES_MAX)
        return Problem(error.code, error.detail, retry_after_ms=error.retry_after_ms)
    if isinstance(error, MembershipRefusedError):
        code = MEMBERSHIP_CODES.get(error.code, error.code)
        return Problem(code if code in KINDS else "internal", error.detail, current=error.data)
    if isinstance(error, OutcomeUnknownError):
        return Problem("outcome_unknown", str(error) or "no answer in time; repeat with the same Idempotency-Key")
    if isinstance(error, TooStaleError):
        return Problem("too_stale", str(error))
    if isinstance(error, CallFailedError):
        return Problem("no_leader", f"the leader did not answer: {error}")
    raise TypeError(f"{type(error).__name__} is no answer of a replica") from error


REPLICA_ERRORS = (
    NotCommittedError,
    OutcomeUnknownError,
    TooStaleError,
    CallFailedError,
    MembershipRefusedError,
)

_encoder = msgspec.json.Encoder()


def encode(problem: Problem, instance: str) -> bytes:
    """The document's bytes."""
    return _encoder.encode(problem.document(instance))
