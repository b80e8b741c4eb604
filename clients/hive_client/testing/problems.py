"""Refusals of the fake, with status and retry word as the API's table has them."""

from __future__ import annotations

from typing import Any

_STATUS = {
    "invalid_request": 400, "invalid_cursor": 400, "not_found": 404, "unknown_project": 404, "method_not_allowed": 405,
    "conflict": 409, "exists": 409, "stale_attempt": 409, "stale_epoch": 409, "sequence_mismatch": 409,
    "lock_held": 409, "agent_unavailable": 409, "quorum_at_risk": 409, "node_id_used": 409, "compacted": 410,
    "too_large": 413,
    "idempotency_key_reused": 422, "rate_limited": 429, "queue_full": 429,
    "internal": 500, "not_enabled": 501, "no_leader": 503, "overloaded": 503, "too_stale": 503,
    "read_only": 503, "shutting_down": 503, "outcome_unknown": 504,
}  # fmt: skip
_SAME_KEY = {"internal", "outcome_unknown"}


class Problem(Exception):  # noqa: N818 - it becomes a problem document
    """A refusal; raised before anything was changed."""

    def __init__(self, code: str, detail: str = "", **extra: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.status = _STATUS[code]
        self.document = {
            "type": f"/problems/{code}",
            "title": code.replace("_", " "),
            "status": self.status,
            "detail": detail or code.replace("_", " "),
            "code": code,
            "retry": "same_key" if code in _SAME_KEY else "safe" if self.status in {429, 503} else "no",
            **extra,
        }


def invalid(path: str, message: str) -> Problem:
    """400 with the path of a field."""
    return Problem("invalid_request", f"{path}: {message}", errors=[{"path": path, "message": message}])
