"""What must hold at every moment of a simulation, whatever goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cluster.journal import Journal, JournalDamaged
from cluster.replica import NotCommittedError, Notice
from cluster.state import Position
from statemachine.changes import Change
from statemachine.outcome import Outcome
from tests.sim.clockwork import START_MS
from tests.sim.history import History, Replayed, group_by_revision

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.simulation import Simulation

_CLOCK_AHEAD_MS_MAX = 2_000
"""An entry's time is at most so far ahead of the true time, while one clock at most is wrong."""

_VIOLATIONS_MAX = 5


class Checks:
    """Watches everything. `violations` stays empty, or the cluster is wrong."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.history = History()
        self.figures = dict.fromkeys(("grants", "grants_with_locks", "budgets_used_up"), 0)
        self.violations: list[str] = []
        self.acknowledged: dict[str, Outcome] = {}
        self.denied: set[str] = set()
        self.seen_index = 0
        self._keyed: dict[str, list[str]] = {}
        self._told: dict[int, list[bytes]] = {}
        self._leaders: dict[int, str] = {}
        self._votes: dict[tuple[str, int], str] = {}
        self._terms: dict[str, int] = {}
        self._promised_index: dict[str, tuple[int, int]] = {}
        self._chains: dict[int, bytes] = {}
        self._revisions: dict[tuple[str, int], int] = {}
        self._journal_ids: dict[tuple[str, str], bytes] = {}

    @property
    def failed(self) -> bool:
        """Whether enough went wrong to stop."""
        return len(self.violations) >= _VIOLATIONS_MAX

    @property
    def terms(self) -> list[int]:
        """The terms in which anybody led."""
        return sorted(self._leaders)

    def violated(self, where: str, what: str) -> None:
        """Something is wrong."""
        self._sim.note(where, f"VIOLATION: {what}")
        self.violations.append(f"{self._sim.scheduler.now_s:.4f} {where}: {what}")

    # --- nodes --------------------------------------------------------------------------------------------------------

    def on_start(self, member: Member, journal: Journal) -> None:
        """A journal was opened: what was promised on it is still there."""
        term = journal.getCurrentTerm()
        promised = self._terms.get(member.node_id, 0)
        if member.kept.journal_ids or journal.last_index > 1:
            if term < promised:
                self.violated(member.node_id, f"starts in term {term}, and has spoken in term {promised}")
            vote = self._votes.get((member.node_id, term))
            if vote is not None and journal.getVotedForNodeId() != vote:
                self.violated(member.node_id, f"has forgotten that it voted for {vote} in term {term}")

    def after_step(self, member: Member) -> None:
        """After each thing that a process did."""
        core = member.core
        engine = core.engine
        if engine.leading:
            leader = self._leaders.setdefault(engine.term, member.node_id)
            if leader != member.node_id:
                self.violated(member.node_id, f"leads in term {engine.term}, and so did {leader}")
                self._leaders[engine.term] = member.node_id
        applied, newest = engine.applied_index, core.snapshots.newest
        imaged = 1 if newest is None else newest.position.index
        if applied > core.journal.durable_index and applied > imaged:
            durable = core.journal.durable_index
            self.violated(member.node_id, f"has applied {applied}, and only {durable} is on its disk")

    def on_sent(self, node_id: str, peer_id: str, message: dict[str, Any]) -> None:
        """A message leaves: votes are for one candidate only, whatever is restarted in between."""
        kind = message.get("type")
        if kind == "response_vote":
            self._voted(node_id, message["term"], peer_id)
        elif kind == "request_vote":
            self._voted(node_id, message["term"], node_id)
        if kind in ("response_vote", "request_vote", "next_node_idx"):
            self._terms[node_id] = max(self._terms.get(node_id, 0), message["term"])

    def _voted(self, node_id: str, term: int, candidate: str) -> None:
        before = self._votes.setdefault((node_id, term), candidate)
        if before != candidate:
            self.violated(node_id, f"votes for {candidate} in term {term}, and voted for {before}")

    def on_forgotten(self, member: Member) -> None:
        """A node has lost its votes and terms. It may give a vote again that leads to nothing: see `rebuilding.py`."""
        self._terms.pop(member.node_id, None)
        self._votes = {place: vote for place, vote in self._votes.items() if place[0] != member.node_id}

    def on_opened(self, member: Member, peer_id: str, journal_id: bytes) -> None:
        """`member` has let a peer in: never with another journal than the one it knows, and what the cluster has
        decided goes before what a member alone has seen."""
        pair = (member.node_id, peer_id)
        seen = self._journal_ids.get(pair) if peer_id in member.kept.journal_ids else None
        known = member.core.membership.current.journal_ids().get(peer_id) or seen
        if known is not None and known != journal_id:
            self.violated(member.node_id, f"lets in {peer_id}, whose journal is not the one it was known by")
        self._journal_ids[pair] = journal_id

    def on_fatal(self, member: Member, error: BaseException) -> None:
        """No process may end by itself, but for a disk that takes nothing, or has changed what it was given: no other
        fault is one to die of."""
        member.note(f"stops: {type(error).__name__}: {error}")
        if not (member.disk_trouble and _is_of_disk(error)) and not (member.damaged and _is_of_damage(error)):
            self.violated(member.node_id, f"stops: {type(error).__name__}: {error}")

    def on_removed(self, member: Member) -> None:
        """A process ends because it was removed: somebody asked for that."""
        if member.node_id not in self._sim.to_remove:
            self.violated(member.node_id, "stops as if it had been removed, and nobody wanted that")

    def on_role(self, member: Member) -> None:
        """A leader has everything that was ever committed (Raft, leader completeness)."""
        journal, index = member.core.journal, self.history.last_index
        if not member.core.engine.leading:
            return
        self._sim.leases.leads(member)
        if not member.core.membership.current.is_voter(member.node_id):
            self.violated(member.node_id, "leads, and has no vote")
        term = self.history.entries[index][0] if index > 1 else 0
        # One that paused, and has not heard yet that its term is over, leads nobody.
        if term <= member.core.engine.term and journal.first_index <= index > 1 and journal.term_at(index) != term:
            self.violated(member.node_id, f"leads without entry {index}, which is committed")

    def leader_of(self, term: int) -> str | None:
        """Who led in that term."""
        return self._leaders.get(term)

    # --- entries ------------------------------------------------------------------------------------------------------

    def on_commit(self, member: Member, before: Position, after: Position) -> None:
        """Entries have become visible on a node."""
        journal, history = member.core.journal, self.history
        for index in range(before.index + 1, after.index + 1):
            command, _, term = journal[index - journal.first_index]
            for fault in history.add(index, term, command):
                self.violated(member.node_id, fault)
        chain = self._chains.setdefault(after.index, after.chain)
        if chain != after.chain:
            self.violated(member.node_id, f"its state at entry {after.index} is not that of the others")
        ahead_ms = history.time_ms - START_MS - int(self._sim.scheduler.now_s * 1000)
        if ahead_ms > _CLOCK_AHEAD_MS_MAX:
            self.violated(member.node_id, f"the time of entry {after.index} is {ahead_ms} ms ahead")

    def on_notice(self, member: Member, notice: Notice) -> None:
        """Revisions come without gap or repeat, per run of a node."""
        run = (member.node_id, member.lives)
        last = self._revisions.get(run)
        if last is not None:
            if notice.gap and notice.revision < last:
                self.violated(member.node_id, f"a gap leads back from revision {last} to {notice.revision}")
            if not notice.gap and notice.first_revision != last + 1:
                self.violated(member.node_id, f"revision {notice.first_revision} is told after {last}")
        self._revisions[run] = notice.revision
        if not notice.gap:
            self.on_told(member, notice.changes)
            self._sim.leases.follow(member, notice)

    def on_told(self, member: Member, changes: Sequence[Change]) -> None:
        """A listener or watcher hears of whole revisions: of all changes of each, in order, the same everywhere."""
        for revision, told in group_by_revision(changes, {}).items():
            if self._told.setdefault(revision, told) != told:
                self.violated(member.node_id, f"tells revision {revision} otherwise than it was told before")

    # --- clients ------------------------------------------------------------------------------------------------------

    def on_result(self, member: Member, request_ids: list[str], result: list[Outcome] | Exception) -> None:
        """A client hears what became of its write."""
        index_of = self.history.index_of
        if isinstance(result, NotCommittedError):
            self.denied.update(request_ids)
        if isinstance(result, Exception):
            return
        if len(result) != len(request_ids):
            self.violated(member.node_id, f"{len(result)} outcomes for {len(request_ids)} commands")
            return
        for request_id, outcome in zip(request_ids, result, strict=True):
            if request_id not in index_of:
                self.violated(member.node_id, f"{request_id} is acknowledged, and was never applied")
                continue
            self.acknowledged[request_id] = outcome
            self.seen_index = max(self.seen_index, index_of[request_id])

    def on_read(self, member: Member, began_at_index: int) -> None:
        """A linearizable read goes on: everything acknowledged before it began must be visible."""
        index = member.core.state.position.index
        if index < began_at_index:
            self.violated(member.node_id, f"a read sees entry {index}, and {began_at_index} was seen before it began")
        self.seen_index = max(self.seen_index, index)

    def on_keyed(self, name: str, request_id: str) -> None:
        """A client tries again under the same idempotency key."""
        self._keyed.setdefault(name, []).append(request_id)

    def at_the_end(self, members: list[Member]) -> None:
        """The whole history once more, from nothing."""
        replayed = self.history.replay()
        self.figures.update(replayed.figures)
        for fault in replayed.faults:
            self.violated("history", fault)
        for index, chain in self._chains.items():
            if replayed.chains.get(index) != chain:
                self.violated("history", f"the state at entry {index} is not what its replay gives")
                break
        for member in members:
            content = dict(member.core.state.store.scan(b"\x00", b"\xff"))  # type: ignore[attr-defined]  # a MemoryState
            if content != replayed.content:
                self.violated(member.node_id, "its state is not what a replay gives")
        for request_id, outcome in self.acknowledged.items():
            if replayed.outcomes.get(request_id) != outcome:
                self.violated("history", f"the outcome of {request_id} is not what was acknowledged")
        self._at_most_once(replayed)
        for revision, told in self._told.items():
            if replayed.changes.get(revision) != told:
                self.violated("history", f"revision {revision} was told otherwise than its replay gives")
                break
        for request_id in sorted(self.denied & replayed.outcomes.keys()):
            self.violated("history", f"{request_id} was said not to have happened, and did")

    def _at_most_once(self, replayed: Replayed) -> None:
        """Of all tries under one key one ran, and all that were answered heard what that one did."""
        for name, request_ids in self._keyed.items():
            outcomes = [replayed.outcomes[request_id] for request_id in request_ids if request_id in replayed.outcomes]
            done = [outcome for outcome in outcomes if outcome.refusal is None]
            if sum(not outcome.replayed for outcome in done) > 1:
                self.violated("history", f"{name} has a key, and ran more than once")
            if len({_answer_of(outcome) for outcome in done}) > 1:
                self.violated("history", f"{name} has a key, and was answered in two ways")


def _answer_of(outcome: Outcome) -> tuple[tuple[object, ...], ...]:
    """What a client is told, whether or not it is told again."""
    return tuple((item.status, item.resource_id, item.revision, item.numbers) for item in outcome.items)


def _is_of_disk(error: BaseException | None) -> bool:
    """Whether it is an error of the disk, or follows from one."""
    return error is not None and (isinstance(error, OSError) or _is_of_disk(error.__cause__))


def _is_of_damage(error: BaseException | None) -> bool:
    """Whether it says that the log is damaged, or follows from that."""
    return error is not None and (isinstance(error, JournalDamaged) or _is_of_damage(error.__cause__))
