"""Every way a call can fail, sorted by the one question that matters: did it happen?

``NotHappened`` is certain: nothing was changed (``Refused``: asking again changes nothing; ``Unavailable``: ask later).
``OutcomeUnknown`` is not: the write may be done. Repeat it with the same ``idempotency_key`` (the error carries it) and
the answer is that of the first, if there was one.
"""

# ruff: noqa: N818 - names say what happened, as the codes of the API do

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class HiveError(Exception):
    """A call that did not succeed. Catch this for all of them.

    ``status`` is 0 when no node answered; ``retry`` is the API's word: ``no``, ``safe`` (did not happen) or
    ``same_key`` (unknown); ``current`` is what the server holds instead; ``extra`` has the other members of
    the problem document.
    """

    default_code: ClassVar[str] = "error"
    default_retry: ClassVar[str] = "no"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        status: int = 0,
        retry: str | None = None,
        errors: tuple[Mapping[str, Any], ...] = (),
        current: Any = None,
        retry_after_ms: int | None = None,
        request_id: str = "",
        idempotency_key: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.status = status
        self.retry = retry or self.default_retry
        self.errors = errors
        self.current = current
        self.retry_after_ms = retry_after_ms
        self.request_id = request_id
        self.idempotency_key = idempotency_key
        self.extra: Mapping[str, Any] = extra or {}

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.detail}" if self.detail else self.code]
        fields = [f"{e.get('path', '?')}: {e.get('message', '')}" for e in self.errors]
        parts += [field for field in fields if field not in self.detail]
        if self.current is not None:
            parts.append(f"current {self.current}")
        if self.status:
            parts.append(f"HTTP {self.status}")
        if self.request_id:
            parts.append(f"request {self.request_id}")
        return "; ".join(parts)


class NotHappened(HiveError):
    """Certainly nothing was changed."""


class Refused(NotHappened):
    """The server understood and said no; the same request gets the same answer until something else changes."""


class Unavailable(NotHappened):
    """Nothing happened and it may be asked again; raised once the time of the call was used up."""

    default_retry = "safe"


class OutcomeUnknown(HiveError):
    """The write may have happened or not. Repeat it with ``error.idempotency_key``: it cannot happen twice."""

    default_code = "outcome_unknown"
    default_retry = "same_key"


class InvalidRequest(Refused):
    """The request is malformed; `errors` names the fields."""

    default_code = "invalid_request"


class InvalidCursor(Refused):
    """A cursor belongs to the filters it was made with; start the list again."""

    default_code = "invalid_cursor"


class Unauthenticated(Refused):
    """No valid credentials came with the request."""

    default_code = "unauthenticated"


class Forbidden(Refused):
    """The principal lacks ``permission``."""

    default_code = "forbidden"

    @property
    def permission(self) -> str:
        return str(self.extra.get("permission", ""))


class NotFound(Refused):
    """Unknown here, at the revision the node reflects: with a stale read another node may know it."""

    default_code = "not_found"


class UnknownProject(NotFound):
    """A project comes into being with its first write; reads, claims and registrations do not make one."""

    default_code = "unknown_project"


class MethodNotAllowed(Refused):
    """The path does not know this method."""

    default_code = "method_not_allowed"


class UnsupportedMediaType(Refused):
    """A request with an Origin must be application/json."""

    default_code = "unsupported_media_type"


class Conflict(Refused):
    """The request does not fit the state that the server holds; see ``current``."""

    default_code = "conflict"


class Exists(Conflict):
    """The id is taken by something with other content; see ``current``."""

    default_code = "exists"


class Fenced(Conflict):
    """The caller no longer holds what it acts for, and nothing was changed. Stop the work."""


class StaleAttempt(Fenced):
    """The task is no longer held under this attempt; `current` says who holds it."""

    default_code = "stale_attempt"


class StaleEpoch(Fenced):
    """The agent was registered again, perhaps by another process with the same ``agent_id``."""

    default_code = "stale_epoch"


class StaleToken(Fenced):
    """The lock is no longer held under this token."""

    default_code = "stale_token"


class SequenceMismatch(Conflict):
    """Somebody appended in between: read from ``expected_seq`` to ``last_seq`` and decide again."""

    default_code = "sequence_mismatch"

    @property
    def last_seq(self) -> int | None:
        value = self.extra.get("last_seq")
        return value if isinstance(value, int) else None


class ConditionFailed(Conflict):
    """A condition of the transaction did not hold."""

    default_code = "condition_failed"


class LockHeld(Conflict):
    """Others hold an overlapping lock; `current` names them."""

    default_code = "lock_held"


class AgentUnavailable(Conflict):
    """The agent cannot take the task; `current` says why."""

    default_code = "agent_unavailable"


class MembershipBusy(Conflict):
    """Another change of members is under way."""

    default_code = "membership_busy"


class QuorumAtRisk(Conflict):
    """The change would leave no live majority."""

    default_code = "quorum_at_risk"


class NodeIdUsed(Conflict):
    """A node id is never used twice."""

    default_code = "node_id_used"


class IdempotencyKeyExpired(OutcomeUnknown):
    """The key is older than what the server remembers: it will not run again, and whether it ran is no longer known.

    Read the resource to find out; a fresh key would be a second run.
    """

    default_code = "idempotency_key_expired"
    default_retry = "no"


class IdempotencyKeyReused(Refused):
    """The key belongs to another request: method, path, query and body must be the same byte for byte."""

    default_code = "idempotency_key_reused"


class Compacted(Refused):
    """The wanted revisions are gone; list again and continue from there (``oldest_revision`` is the first one kept)."""

    default_code = "compacted"

    @property
    def oldest_revision(self) -> int | None:
        value = self.extra.get("oldest_revision")
        return value if isinstance(value, int) else None


class ClusterRestored(Refused):
    """The cluster was restored from a backup: everything remembered about revisions is void; list again."""

    default_code = "cluster_restored"


class TooLarge(Refused):
    """A limit on size; `limit_name` and `limit_bytes` are in the problem."""

    default_code = "too_large"

    @property
    def limit_name(self) -> str:
        return str(self.extra.get("limit_name", ""))

    @property
    def limit_bytes(self) -> int | None:
        value = self.extra.get("limit_bytes")
        return value if isinstance(value, int) else None


class NotEnabled(Refused):
    """This server does not offer that."""

    default_code = "not_enabled"


class RateLimited(Unavailable):
    """Too many requests; try again after `retry_after_ms`."""

    default_code = "rate_limited"


class QueueFull(Unavailable):
    """A bounded queue is full; nothing happened."""

    default_code = "queue_full"


class NoLeader(Unavailable):
    """No majority of nodes: an election runs, or too many nodes are down."""

    default_code = "no_leader"


class Overloaded(Unavailable):
    """The cluster has too many unfinished writes; nothing happened."""

    default_code = "overloaded"


class TooStale(Unavailable):
    """No node reached the wanted revision or freshness in time."""

    default_code = "too_stale"


class ReadOnly(Unavailable):
    """The cluster takes no writes now, for want of space."""

    default_code = "read_only"


class ShuttingDown(Unavailable):
    """The node is stopping; another one answers."""

    default_code = "shutting_down"


class Unreachable(Unavailable):
    """No endpoint accepted a connection."""

    default_code = "unreachable"


class InternalError(OutcomeUnknown):
    """A bug in the node; its log has the request id."""

    default_code = "internal"


class UnexpectedReply(HiveError):
    """Something other than a Hive node answered, or it answered what this library cannot read."""

    default_code = "unexpected_reply"


class WaitTimedOut(HiveError, TimeoutError):
    """The awaited state did not come in time. The wait changed nothing; ``current`` is what was last seen."""

    default_code = "wait_timed_out"


CLASS_BY_CODE: dict[str, type[HiveError]] = {
    cls.default_code: cls
    for cls in (
        InvalidRequest, InvalidCursor, Unauthenticated, Forbidden, NotFound, UnknownProject, MethodNotAllowed,
        UnsupportedMediaType, Conflict, Exists, StaleAttempt, StaleEpoch, StaleToken, SequenceMismatch, ConditionFailed,
        LockHeld, AgentUnavailable, MembershipBusy, QuorumAtRisk, NodeIdUsed, IdempotencyKeyExpired, Compacted,
        ClusterRestored, TooLarge, IdempotencyKeyReused, RateLimited, QueueFull, InternalError, NotEnabled, NoLeader,
        Overloaded, TooStale, ReadOnly, ShuttingDown, OutcomeUnknown,
    )
}  # fmt: skip
