"""The only face of this package: what a node may ask of its replica of the state.

Everything here is data or bytes, so that the same face can be served over a socket to other processes of the node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from statemachine.changes import Change
from statemachine.commands import AddMember, PromoteMember, RemoveMember, UpdateMember
from statemachine.outcome import Outcome

__all__ = [
    "AddMember",
    "CallFailedError",
    "MemberChange",
    "MemberStatus",
    "MembershipRefusedError",
    "Metrics",
    "NotCommittedError",
    "Notice",
    "OutcomeUnknownError",
    "PromoteMember",
    "RemoveMember",
    "Replica",
    "ReplicaStatus",
    "ServiceHandler",
    "TooStaleError",
    "UpdateMember",
    "View",
]

MemberChange = AddMember | PromoteMember | RemoveMember | UpdateMember
"""A change of the membership, one server at a time."""


class NotCommittedError(Exception):
    """The write did not happen and never will: it is safe to send it again.

    `code` is one of API.md's 503 codes (`no_leader`, `overloaded`, `read_only`, `shutting_down`, and `too_stale` of a
    node that is out of service) or `too_large`.
    """

    def __init__(self, code: str, detail: str, retry_after_ms: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms


class OutcomeUnknownError(Exception):
    """Whether the write happened is not known here. Only a repeat under the same Idempotency-Key is safe."""


class MembershipRefusedError(Exception):
    """A change of the membership was refused: nothing changed.

    `code`: `membership_busy` (another change is under way), `quorum_at_risk` (`data` has the arithmetic: `voters`,
    `quorum`, `live`, all of the members as they would be), `not_found`, `exists` (`data`: the member), `id_used` (the
    id belonged to a member that was removed), `not_caught_up` (`data`: `lag_entries`, `lag_entries_max`), or
    `conflict` (this cluster of one has no cluster secret, so nobody can join it).
    """

    def __init__(self, code: str, detail: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.data = data


class TooStaleError(Exception):
    """This node could not reach the asked freshness in time."""


class CallFailedError(Exception):
    """A call to the leader's memory was not answered: no leader, connection lost, or time over. It may have arrived."""


class View(Protocol):
    """One consistent state, for at most a second: a `statemachine.store.Reader` that knows where it stands."""

    @property
    def revision(self) -> int:
        """The last revision this view shows."""

    @property
    def time_ms(self) -> int:
        """The time of the last entry this view shows."""

    def get(self, key: bytes) -> bytes | None:
        """As `Reader.get`."""

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """As `Reader.scan`."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What listeners hear after an entry was applied here and became visible to views.

    `gap` is set when the state jumped (a snapshot was installed): changes in between were not reported one by one.
    """

    index: int
    term: int
    first_revision: int
    revision: int
    time_ms: int
    changes: tuple[Change, ...] = ()
    gap: bool = False
    internal_errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A member as this node sees it. `role` is leader, follower, candidate or learner; a learner has no vote.

    Match and lag are known to the leader only; `last_contact_ms` since it was heard.
    """

    node_id: str
    peer_address: str
    http_address: str | None
    role: str
    voter: bool
    connected: bool
    match_index: int | None = None
    lag_entries: int | None = None
    last_contact_ms: int | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """The consensus side of `GET /api/status/cluster`."""

    cluster_id: str
    node_id: str
    run_id: str
    role: str
    leader_id: str | None
    term: int
    commit_index: int
    applied_index: int
    durable_index: int
    last_index: int
    snapshot_index: int
    has_quorum: bool
    members: tuple[MemberStatus, ...]
    digest: str
    alarms: tuple[str, ...] = ()
    ready: bool = True
    log_bytes: int = 0
    log_first_index: int = 1
    state_bytes: int = 0
    cluster_version: str = ""


@dataclass(slots=True)
class Metrics:
    """Counters and observers the node's metrics read and set. Observers get seconds."""

    leader_changes: int = 0
    proposals_pending: int = 0
    proposals_committed: int = 0
    proposals_applied: int = 0
    proposals_failed: int = 0
    late_ticks: int = 0
    state_checks: int = 0
    state_compared: bool = False
    disk_free_bytes: int | None = None
    on_fsync: Callable[[float], None] | None = None
    on_commit: Callable[[float], None] | None = None
    on_snapshot: Callable[[float], None] | None = None
    peer_round_trip_s: dict[str, float] = field(default_factory=dict)


ServiceHandler = Callable[[str, bytes], Awaitable[bytes]]
"""Answers a call: (node id of the caller, request) -> reply."""


class Replica(Protocol):
    """One node's replica. Use it from the thread it was started on."""

    @property
    def metrics(self) -> Metrics:
        """Counters, and places for observers."""

    @property
    def node_id(self) -> str:
        """This node."""

    @property
    def cluster_id(self) -> str:
        """The cluster; changed only by restore and recover."""

    @property
    def run_id(self) -> str:
        """New with every start of this node (`Hive-Run`)."""

    @property
    def leader_id(self) -> str | None:
        """Who leads, as far as this node knows."""

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, has committed in its term, and applied everything before it."""

    @property
    def term(self) -> int:
        """The current term."""

    @property
    def revision(self) -> int:
        """The last revision applied here."""

    @property
    def out_of_service(self) -> str:
        """Why this node must serve nothing, in a sentence with the way out; empty while it may serve."""

    def leadership_confirmed_s(self) -> float | None:
        """Seconds since the sending of the newest probe that a majority answered in this term; None: not the leader.

        What only the leader remembers (leases, heartbeats) may be believed while this is under the fallback time.
        """

    def lag_ms(self) -> int | None:
        """Time since this node had applied everything a quorum-confirmed leader had committed; None: never heard."""

    def now_ms(self) -> int:
        """This node's estimate of the cluster's time."""

    async def propose(self, frames: Sequence[bytes], timeout_s: float, term: int | None = None) -> list[Outcome]:
        """Have the commands (encoded `statemachine.entry.Frame`s) committed, durable on a majority, and applied here.

        Frames of one call stay together and in order. With `term` they happen in that term or not at all: for what a
        leader decides by its own memory, which the next leader knows better. Raises NotCommittedError,
        OutcomeUnknownError.
        """

    def view(self) -> AbstractContextManager[View]:
        """This node's applied state. Close it within a second."""

    async def read_barrier(self, timeout_s: float) -> None:
        """After this, `view()` shows every write acknowledged before the call (ReadIndex, Raft thesis 6.4).

        Raises NotCommittedError("no_leader") or TooStaleError.
        """

    async def wait_revision(self, revision: int, timeout_s: float) -> None:
        """Wait until that revision is applied here. Raises TooStaleError."""

    def subscribe(self, listener: Callable[[Notice], None]) -> Callable[[], None]:
        """Hear of every applied entry, in order, on this thread; returns the way to stop. Listeners must not raise."""

    def on_role_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Hear when leader, term or `is_leader` changed here."""

    def serve(self, service: str, handler: ServiceHandler) -> None:
        """Answer `call_leader(service)` of other nodes (and of this one) while this node leads."""

    async def call_leader(self, service: str, request: bytes, timeout_s: float) -> bytes:
        """Ask the leader's memory. Raises CallFailedError."""

    async def transfer_leadership(self, to: str | None, timeout_s: float) -> str:
        """Hand over to a member (None: the most caught up); returns the new leader's id.

        Raises NotCommittedError when it is not possible now, ValueError for an unknown member.
        """

    async def change_members(self, change: MemberChange, timeout_s: float) -> tuple[MemberStatus, ...]:
        """Change the membership; returns the members after it. Works on any node; it is the leader who decides.

        Repeating a change is harmless: removing who is gone, adding who is there with the same addresses, promoting a
        voter all succeed. An added member is a learner, which the leader promotes by itself once it has been caught up
        for a while. A leader that is to be removed hands over first.

        Raises MembershipRefusedError, NotCommittedError, OutcomeUnknownError.
        """

    async def snapshot(self) -> int:
        """Take a snapshot now and compact the log; returns its index."""

    def status(self) -> ReplicaStatus:
        """Where everything stands."""

    async def close(self) -> None:
        """Hand over, flush, stop. Pending proposals end with their honest error."""
