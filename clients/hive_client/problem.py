"""From an HTTP error reply to the exception that says what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hive_client.errors import CLASS_BY_CODE, HiveError, OutcomeUnknown, Refused, Unavailable, UnexpectedReply

_KNOWN_MEMBERS = frozenset(
    {"type", "title", "status", "detail", "instance", "code", "retry", "errors", "current", "retry_after_ms"}
)
_RETRY_WORDS = frozenset({"no", "safe", "same_key"})


def error_from_reply(status: int, headers: Mapping[str, str], document: Any, *, key: str | None = None) -> HiveError:
    """The exception for a reply with an error status; unknown codes and foreign replies get the class of
    their family.
    """
    problem: Mapping[str, Any] = document if isinstance(document, dict) else {}
    code = problem.get("code")
    retry = problem.get("retry")
    if not isinstance(code, str) or retry not in _RETRY_WORDS:
        return _foreign(status, headers, problem, key)
    errors = problem.get("errors")
    cls = CLASS_BY_CODE.get(code) or _family(str(retry))
    return cls(
        str(problem.get("detail") or problem.get("title") or ""),
        code=code,
        status=status,
        retry=str(retry),
        errors=tuple(e for e in errors if isinstance(e, dict)) if isinstance(errors, list) else (),
        current=problem.get("current"),
        retry_after_ms=_retry_after_ms(headers, problem),
        request_id=headers.get("Hive-Request-Id", ""),
        idempotency_key=key,
        extra={name: value for name, value in problem.items() if name not in _KNOWN_MEMBERS},
    )


def _family(retry: str) -> type[HiveError]:
    return {"no": Refused, "safe": Unavailable}.get(retry, OutcomeUnknown)


def _foreign(status: int, headers: Mapping[str, str], problem: Mapping[str, Any], key: str | None) -> HiveError:
    # A proxy in between: whether the node behind it acted is unknown for every 5xx.
    text = str(problem.get("detail") or "the reply is not a Hive problem document; is this a Hive node?")
    request_id = headers.get("Hive-Request-Id", "")
    wait = _retry_after_ms(headers, problem)
    if status == 429:
        return Unavailable(text, status=status, retry_after_ms=wait, request_id=request_id, idempotency_key=key)
    if status >= 500:
        return OutcomeUnknown(text, status=status, retry_after_ms=wait, request_id=request_id, idempotency_key=key)
    return UnexpectedReply(text, status=status, request_id=request_id, idempotency_key=key)


def _retry_after_ms(headers: Mapping[str, str], problem: Mapping[str, Any]) -> int | None:
    value = problem.get("retry_after_ms")
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return int(value)
    seconds = headers.get("Retry-After", "")
    return int(seconds) * 1000 if seconds.isdecimal() and len(seconds) < 7 else None
