"""The leader's side of membership: one change at a time, never one that would leave no live quorum, and what it does by
itself: it founds the membership, pins journals, and promotes learners.

A change is an entry of its own type in the log (`engine.MEMBERSHIP`), and counts on each node once it is APPLIED there,
as in etcd. What makes that sound (Raft thesis 4.1; with H8 the engine's own way is not):

* none is appended before the leader has applied its own first entry, and none before the last one is applied, so that
  of two configurations in use one is at most one server ahead of the other, and their majorities meet;
* who does not know who is a member does not campaign: `unapplied`;
* where a change is on disk, the commit of the one before is too. Its leader had applied that one, its message says so,
  and a group of the journal carries the commit index with the entries it came with;
* a voter is removed in two changes. After the first it does not count, and still votes when it is asked: the others may
  not know that it is committed, and need that vote. A majority that has the second knows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from cluster.engine import MEMBERSHIP
from cluster.members import Configuration, quorum_of, read_configuration
from cluster.replica import MemberChange, MembershipRefusedError, NotCommittedError, OutcomeUnknownError
from statemachine import commands
from statemachine.commands import (
    AddMember,
    Command,
    Founder,
    FoundMembers,
    PinJournal,
    PromoteMember,
    RemoveMember,
    UpdateMember,
)
from statemachine.entry import Frame, Header, encode_batch, encode_entry, encode_frame
from statemachine.members import LEARNER, Member
from statemachine.outcome import Outcome

if TYPE_CHECKING:
    from cluster.core import Core

log = logging.getLogger("hive.cluster.membership")

Waiter = Callable[[Outcome | Exception], None]

_LOOKED_AT_MAX = 1_000
"""Unapplied entries that are searched for a change before a campaign; with more, the node has to catch up first."""


@dataclass(slots=True)
class _Pending:
    """A change on its way: wanted, and appended once `index` is set."""

    sequence: int
    term: int
    command: Command
    waiter: Waiter
    index: int | None = None


class Membership:
    """The membership on one node, and, while it leads, what becomes of it."""

    def __init__(self, core: Core, started: Configuration, run: int) -> None:
        """`run` names this node's changes in the log, and is no other proposer's."""
        self._core = core
        self._started = started
        self.run = run
        self._sequence = 0
        self._pending: _Pending | None = None
        self._stable_since_s: dict[str, float] = {}
        self.current = self._read()

    def _read(self) -> Configuration:
        with self._core.state.view() as view:
            return read_configuration(view, self._started)

    def reload(self) -> Configuration:
        """A change was applied, or a snapshot was installed."""
        self.current = self._read()
        return self.current

    def unapplied(self) -> bool:
        """Whether a committed change may be unapplied here: this node's idea of a majority is out of date then, and IT
        MUST NOT CAMPAIGN."""
        engine, journal = self._core.engine, self._core.journal
        first, last = engine.applied_index + 1, min(engine.commit_index, journal.last_index)
        if last - first > _LOOKED_AT_MAX:
            return True
        return any(
            journal[index - journal.first_index][0][:1] == MEMBERSHIP for index in range(first, last + 1)
        )

    # --- changes ------------------------------------------------------------------------------------------------------

    def propose(self, change: MemberChange, waiter: Waiter) -> None:
        """Have a change decided; `waiter` gets its outcome, NotCommittedError or OutcomeUnknownError.

        Raises MembershipRefusedError, NotCommittedError("no_leader").
        """
        if not self._core.is_leader:
            raise NotCommittedError("no_leader", "this node does not lead")
        if not self._may_append():
            raise MembershipRefusedError(
                "membership_busy", "another change of the membership is under way, or the leader is new; try again"
            )
        self._check(change)
        self._want(change, waiter)

    @property
    def busy(self) -> bool:
        """Whether a change is under way."""
        return self._pending is not None

    def _may_append(self) -> bool:
        core = self._core
        return self._pending is None and core.is_leader and core.entry_time.known and not core.intake.paused

    def _want(self, command: Command, waiter: Waiter) -> None:
        self._sequence += 1
        self._pending = _Pending(self._sequence, self._core.engine.term, command, waiter)
        self._core.schedule_pump()

    def append(self) -> bool:
        """From the pump: make an entry of the change that is wanted."""
        core, pending = self._core, self._pending
        if pending is None or pending.index is not None:
            return False
        if not core.is_leader or core.engine.term != pending.term or core.intake.paused:
            self._finish(NotCommittedError("no_leader", "leadership was lost before the change was in the log"))
            return False
        batch = encode_batch(self.run, pending.sequence, [_frame(self.run, pending)])
        entry = encode_entry(Header(core.entry_time.stamp_ms(), pending.term), [batch])
        pending.index = core.engine.append(entry, MEMBERSHIP)
        return True

    def decided(self, sequence: int, outcome: Outcome) -> None:
        """A change of this node was applied here."""
        pending = self._pending
        if pending is not None and pending.sequence == sequence:
            if outcome.refusal is None:
                log.info("membership changed change=%s", _told(pending.command))
            self._finish(outcome)

    def applied_term(self, term: int) -> None:
        """An entry of this term was applied here: a change of an older one that was not has not happened."""
        if self._pending is not None and self._pending.term < term:
            self._finish(NotCommittedError("no_leader", "leadership was lost; the change did not happen"))

    def gap(self) -> None:
        """A snapshot took the place of entries that nobody saw here, or the node stops."""
        if self._pending is not None:
            self._finish(OutcomeUnknownError("what became of the change was not seen here"))

    def _finish(self, result: Outcome | Exception) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.waiter(result)

    # --- what is refused ----------------------------------------------------------------------------------------------

    def _check(self, change: MemberChange) -> None:
        """What depends on who answers now; the rest is decided by the state machine."""
        if isinstance(change, AddMember) and not self._core.peers.may_be_joined:
            raise MembershipRefusedError(
                "conflict", "this cluster of one has no cluster secret; start it with --cluster-secret-file"
            )
        if isinstance(change, PromoteMember):
            member = self.current.members.get(change.node_id)
            if member is not None and member.role == LEARNER:
                self._check_caught_up(member)
                self._check_quorum(f"with {change.node_id}", self.current.voters | {change.node_id})
        if isinstance(change, RemoveMember) and self.current.is_voter(change.node_id):
            self.check_removal(change)
            if change.node_id == self._core.options.node_id:
                raise MembershipRefusedError("membership_busy", "the leader hands over before it is removed")

    def check_removal(self, change: RemoveMember) -> None:
        """Raise MembershipRefusedError if a majority of those who would be left does not answer."""
        self._check_quorum(f"without {change.node_id}", self.current.voters - {change.node_id})

    def _check_quorum(self, how: str, voters: frozenset[str]) -> None:
        live = sorted(voter for voter in voters if self._takes_part(voter))
        quorum = quorum_of(len(voters))
        if not voters or len(live) < quorum:
            raise MembershipRefusedError(
                "quorum_at_risk",
                f"{how} there are {len(voters)} voters, of which {quorum} must answer, and {len(live)} do",
                {"voters": len(voters), "quorum": quorum, "live": len(live), "live_ids": live},
            )

    def _takes_part(self, node_id: str) -> bool:
        """Whether that one would help to commit the next entry soon: a voter without the log is as good as none."""
        if node_id == self._core.options.node_id:
            return True
        member, lag = self.current.members[node_id], self._lag(node_id)
        return bool(member.journal_id) and lag is not None and lag <= self._core.options.limits.promote_lag_entries_max

    def _check_caught_up(self, member: Member) -> None:
        lag, lag_max = self._lag(member.node_id), self._core.options.limits.promote_lag_entries_max
        if not member.journal_id or lag is None or lag > lag_max:
            known = "it does not answer, or has just begun" if lag is None else f"it is {lag} entries behind"
            raise MembershipRefusedError(
                "not_caught_up",
                f"{member.node_id} may vote once it is at most {lag_max} entries behind; {known}",
                {"lag_entries": lag, "lag_entries_max": lag_max},
            )

    def _lag(self, node_id: str) -> int | None:
        """How many entries a member lacks; None: it does not answer, or does not have what was decided before this
        leader was elected."""
        core = self._core
        match_index = core.engine.match_index(node_id)
        if node_id not in core.transport.connected or not core.is_live(node_id):
            return None
        return max(0, core.journal.last_index - match_index) if match_index >= core.engine.no_op_index else None

    # --- what the leader does by itself -------------------------------------------------------------------------------

    def lead(self) -> None:
        """From time to time, on whoever leads."""
        if not self._core.is_leader:
            self._stable_since_s = {}
            return
        self._watch_learners()
        if self._may_append() and (command := self._duty()) is not None:
            self._want(command, lambda _: None)

    def _watch_learners(self) -> None:
        lag_max, now = self._core.options.limits.promote_lag_entries_max, self._core.now_s()
        before, self._stable_since_s = self._stable_since_s, {}
        for node_id in self.current.learners:
            lag = self._lag(node_id)
            if lag is not None and lag <= lag_max:
                self._stable_since_s[node_id] = before.get(node_id, now)

    def _duty(self) -> Command | None:
        """The most urgent thing that is due."""
        current = self.current
        if not current.founded:
            return FoundMembers(
                tuple(Founder(member.node_id, member.peer_address) for member in current.members.values())
            )
        for node_id, member in current.members.items():
            peer = self._core.peers.met_as(node_id) if not member.journal_id else None
            if peer is not None and self._core.is_live(node_id):
                return PinJournal(node_id, peer.journal_id, peer.http_address)
        for node_id in sorted(current.leaving):
            return RemoveMember(node_id)
        return self._promotion()

    def _promotion(self) -> PromoteMember | None:
        core, stable_s = self._core, self._core.options.timings.promote_stable_ms / 1000
        for node_id, since_s in sorted(self._stable_since_s.items()):
            if core.now_s() - since_s >= stable_s:
                try:
                    self._check(PromoteMember(node_id))
                except MembershipRefusedError:
                    continue
                return PromoteMember(node_id)
        return None


def _frame(run: int, pending: _Pending) -> bytes:
    command = pending.command
    return encode_frame(
        Frame(
            commands.NUMBERS[type(command)],
            commands.VERSION,
            "",
            "system:cluster",
            f"membership-{run:016x}-{pending.sequence}",
            None,
            None,
            0,
            0,
            msgspec.Raw(commands.encode(command)),
        )
    )


def _told(command: Command) -> str:
    """A change as the log shows it."""
    if isinstance(command, FoundMembers):
        return f"founded by {','.join(founder.node_id for founder in command.founders)}"
    names: dict[type[Command], str] = {
        AddMember: "added",
        PromoteMember: "promoted",
        RemoveMember: "removed",
        UpdateMember: "moved",
        PinJournal: "met",
    }
    node_id: Any = getattr(command, "node_id", "")
    return f"{names[type(command)]} {node_id}"
