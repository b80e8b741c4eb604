"""The consensus engine: PySyncObj with its clock, randomness, journal, snapshots and apply loop replaced.

What the engine still decides itself: who leads, which entries are in the log, what is committed. What it is not allowed
to do by itself is listed in `engine_pins` and closed here and in `transport`.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from cluster.engine_pins import check_engine

check_engine()

import pysyncobj.syncobj as engine_module  # noqa: E402 - only after the check
from pysyncobj import SyncObj, SyncObjConf  # noqa: E402 - only after the check
from pysyncobj.node import Node  # noqa: E402 - only after the check

from cluster.apply_turn import ApplyTurn  # noqa: E402 - only after the check
from cluster.journal import Journal  # noqa: E402 - only after the check
from cluster.member_node import MemberNode, member_node  # noqa: E402 - only after the check
from cluster.ports import Clock  # noqa: E402 - only after the check
from cluster.settings import Limits, Timings  # noqa: E402 - only after the check

REGULAR = b"\x00"
NO_OP = b"\x01"
MEMBERSHIP = b"\x10"
"""First byte of a log entry's command. The last is a type of our own, which the engine passes by; its other types are
never used, and refused on the wire."""

_FAR_S = 1e9


class _ActiveClock:
    """The engine reads the time through a module global. One process may hold many nodes (the simulator), each with its
    own clock, so whoever enters an engine says whose turn it is."""

    def __init__(self) -> None:
        self.read: Callable[[], float] = lambda: 0.0


_active = _ActiveClock()


def _now() -> float:
    return _active.read()


engine_module.monotonicTime = _now
engine_module.createJournal = lambda journal: journal


class _TruncationFilter(logging.Filter):
    """The engine cuts its log and adds the same entries again on every repeated message (H2); the journal takes them
    back, so its alarm about that is not one."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "truncating already-applied" not in str(record.msg)


logging.getLogger("pysyncobj.syncobj").addFilter(_TruncationFilter())


class _NoPoller:
    """What stands in for the engine's poller."""

    def poll(self, timeout: float) -> None:
        """There is nothing to wait for."""


class SnapshotDuty(Protocol):
    """What stands in for the engine's Serializer (same method names, serializer.py)."""

    def checkSerializing(self) -> tuple[int, int | None]: ...  # noqa: N802 - the engine's name
    def serialize(self, data: tuple[Any, ...], index: int) -> None: ...
    def deserialize(self) -> tuple[Any, ...]: ...
    def getTransmissionData(self, node: Node) -> tuple[bytes, bool, bool]: ...  # noqa: N802 - the engine's name
    def setTransmissionData(self, data: Any) -> bool: ...  # noqa: N802 - the engine's name
    def cancelTransmisstion(self, node: Node) -> None: ...  # noqa: N802 - the engine's name


ApplyEntries = Callable[[int, int], int]
"""Apply the log's entries (first, last), inclusive; returns the last one applied."""


class Engine(SyncObj):  # type: ignore[misc]  # the package is untyped
    """One node's engine. `enter()` before every call into it."""

    def __init__(
        self,
        node_id: str,
        other_ids: list[str],
        *,
        journal: Journal,
        transport: Any,
        snapshots: SnapshotDuty,
        apply_entries: ApplyEntries,
        on_state_changed: Callable[[], None],
        clock: Clock,
        rng: random.Random,
        timings: Timings,
        limits: Limits,
    ) -> None:
        self._clock_s = clock.monotonic_s
        self._rng = rng
        self._timeout_s = (timings.election_timeout_min_ms / 1000, timings.election_timeout_max_ms / 1000)
        self._journal = journal
        self._apply_entries = apply_entries
        self.apply_turn = ApplyTurn(journal, clock)
        self.commit_told = 0
        self._on_state_changed = on_state_changed
        self.enter()
        super().__init__(
            member_node(node_id),
            [member_node(other) for other in other_ids],
            conf=_conf(journal, timings, limits, self._state_changed),
            nodeClass=MemberNode,
            transport=transport,
        )
        self._SyncObj__serializer = snapshots
        # Its sockets are not used: nothing is ever registered, and asking the kernel each tick costs more than the
        # tick.
        self._poller = _NoPoller()

    def enter(self) -> None:
        """Make this node's clock the one the engine reads."""
        _active.read = self._clock_s

    def load_snapshot(self) -> None:
        """Take the newest snapshot's two entries as the begin of the log. Before any peer is heard (syncobj.py:623)."""
        self._SyncObj__loadDumpFile(clearJournal=False)

    def _state_changed(self, _old: int, _new: int) -> None:
        # H20: a leader that falls back has a stale deadline and would campaign at once.
        self.postpone_election()
        self._on_state_changed()

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802 - overrides a private method
        low, high = self._timeout_s
        return low + (high - low) * self._rng.random()

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802 - overrides a private method
        """H6, H7, H12: no callbacks, no pickle, nothing twice; rule 10: never beyond the own durable log."""
        last = min(self._SyncObj__raftCommitIndex, self._journal.durable_index)
        first = self.applied_index + 1
        if first <= last and self.apply_turn.has_come(leading=self.leading):
            self.skip_to(self._apply_entries(first, last))
        return False

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802 - overrides a private method
        """Remember which commit index the members were told."""
        self.commit_told = self.commit_index
        super()._SyncObj__sendAppendEntries()

    # --- what the guards read and set ---------------------------------------------------------------------------------

    @property
    def leading(self) -> bool:
        """The engine's own view of whether it leads."""
        return bool(self._isLeader())

    @property
    def candidate(self) -> bool:
        """Whether it is campaigning."""
        return bool(self._SyncObj__raftState == 1)

    @property
    def leader_id(self) -> str | None:
        """The leader it last heard of in this term."""
        leader = self._getLeader()
        return None if leader is None else str(leader.id)

    @property
    def term(self) -> int:
        """The current term."""
        return int(self.raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        """What it knows to be committed."""
        return int(self.raftCommitIndex)

    @property
    def applied_index(self) -> int:
        """What it has applied."""
        return int(self.raftLastApplied)

    @property
    def no_op_index(self) -> int:
        """The first entry of its own newest leadership; 0 before any."""
        return int(self._SyncObj__noopIDx or 0)

    @property
    def election_deadline_s(self) -> float:
        """When it will campaign."""
        return float(self._SyncObj__raftElectionDeadline)

    @property
    def transferring(self) -> bool:
        """Whether the leader told it to take over now."""
        return bool(self._SyncObj__transferInProgress)

    def postpone_election(self) -> None:
        """A whole election timeout from now."""
        self._SyncObj__raftElectionDeadline = self._clock_s() + self._SyncObj__generateRaftTimeout()

    def hasten_election(self) -> None:
        """A part of the shortest election timeout from now: when to ask (again) for pre-votes."""
        low_s = self._timeout_s[0]
        self._SyncObj__raftElectionDeadline = self._clock_s() + low_s * (0.1 + 0.4 * self._rng.random())

    def campaign_now(self) -> None:
        """Let the next tick campaign."""
        self._SyncObj__raftElectionDeadline = -_FAR_S

    def send_now(self) -> None:
        """Let the next tick send entries and the commit index without waiting for the period."""
        self._SyncObj__newAppendEntriesTime = -_FAR_S

    def send_entries(self) -> None:
        """Send what the members lack now. The tick would apply first, and they would wait for that."""
        self._SyncObj__sendAppendEntries()

    def skip_to(self, index: int) -> None:
        """The state holds everything up to this entry of the log. So it is committed, even if the commit index on disk,
        which is a lower bound, does not say so."""
        self._SyncObj__raftLastApplied = index
        self._SyncObj__raftCommitIndex = max(self.commit_index, index)

    def know_committed(self, index: int) -> None:
        """Entries of this log up to this one are committed, though no leader said so."""
        self._SyncObj__raftCommitIndex = max(self.commit_index, index)

    def append(self, command: bytes, kind: bytes = REGULAR) -> int:
        """Append one entry to the log of a leader at once; returns its index."""
        self._applyCommand(command, None, kind[0])
        self._checkCommandsToApply()
        return int(self._journal.last_index)

    def credit_contact(self, peer_id: str) -> None:
        """A peer answered: check-quorum counts from now."""
        times = self._SyncObj__lastResponseTime
        node = member_node(peer_id)
        if node in times:
            times[node] = self._clock_s()

    def next_index(self, peer_id: str) -> int:
        """The next entry to send to a peer; 0 if unknown."""
        return int(self._SyncObj__raftNextIndex.get(member_node(peer_id), 0))

    def set_next_index(self, peer_id: str, index: int) -> None:
        """Send from this entry on."""
        self._SyncObj__raftNextIndex[member_node(peer_id)] = index

    def match_index(self, peer_id: str) -> int:
        """The last entry a peer is known to hold durably; 0 if unknown."""
        return int(self._SyncObj__raftMatchIndex.get(member_node(peer_id), 0))

    def forget_match(self, peer_id: str) -> None:
        """What a peer held is gone: it is no copy of anything until it acknowledges anew."""
        matches = self._SyncObj__raftMatchIndex
        if member_node(peer_id) in matches:
            matches[member_node(peer_id)] = 0

    def append_no_op(self) -> int:
        """Append an entry that does nothing to the log of a leader; returns its index."""
        return self.append(b"", NO_OP)

    def end_transfer(self) -> None:
        """Forget that a leader asked this node to take over."""
        self._SyncObj__transferInProgress = False

    def counts(self, peer_id: str) -> bool:
        """Whether that is a voter or a learner here: only then is there a place for what it acknowledges."""
        return member_node(peer_id) in self._SyncObj__raftMatchIndex

    def is_voter(self, peer_id: str) -> bool:
        """Whether that is another voter, whose vote counts."""
        return member_node(peer_id) in self._SyncObj__otherNodes

    def set_members(self, voters: Iterable[str], learners: Iterable[str]) -> None:
        """From now on these others vote, and these learn: to the engine a learner is a read-only node, which gets the
        log and is not counted. Who stays keeps its place in the log, also when a learner becomes a voter."""
        # Sorted: the order in which a set was made decides in which order it is gone through.
        others, readers = set(map(member_node, sorted(voters))), set(map(member_node, sorted(learners)))
        # In place of the sets, not within them: the engine may be in the middle of a loop over them.
        self._SyncObj__otherNodes, self._SyncObj__readonlyNodes = others, readers
        tables = (self._SyncObj__raftNextIndex, self._SyncObj__raftMatchIndex, self._SyncObj__lastResponseTime)
        for table in tables:
            for gone in set(table) - others - readers:
                del table[gone]
        next_index, match_index, heard = tables
        for node in others | readers:
            next_index.setdefault(node, self._journal.last_index + 1)
            match_index.setdefault(node, 0)
            heard.setdefault(node, self._clock_s())

    def step_down(self) -> None:
        """Stop leading, or campaigning, without a new term."""
        if self.leading or self.candidate:
            self._SyncObj__setState(0)
            self._SyncObj__raftLeader = None


def _conf(
    journal: Journal, timings: Timings, limits: Limits, on_state_changed: Callable[[int, int], None]
) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        journalFile=journal,
        fullDumpFile=None,
        commandsWaitLeader=False,
        dynamicMembershipChange=False,
        appendEntriesUseBatch=True,
        appendEntriesPeriod=timings.heartbeat_ms / 1000,
        appendEntriesBatchSizeBytes=limits.engine_batch_bytes,
        raftMinTimeout=timings.election_timeout_min_ms / 1000,
        raftMaxTimeout=timings.election_timeout_max_ms / 1000,
        leaderFallbackTimeout=timings.fallback_ms / 1000,
        connectionTimeout=timings.election_timeout_max_ms / 1000 + 1,
        logCompactionMinEntries=1 << 60,
        logCompactionMinTime=1e12,
        onStateChanged=on_state_changed,
        useFork=False,
    )
