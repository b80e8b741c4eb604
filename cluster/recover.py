"""A cluster that has lost its quorum for good: one survivor becomes a new cluster of one.

Everything in the survivor's log stays, also what it does not know to be committed: an acknowledged write may be among
it, and of one that was not acknowledged nobody was told that it did not happen. What it never got is gone with the
others.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.applier import Applier, ApplyEntry
from cluster.engine import NO_OP
from cluster.identity import CleanMark, DataDirectory, Identity, StartError
from cluster.real.clock import SystemClock
from cluster.replica import Metrics
from cluster.settings import Limits, ReplicaOptions
from cluster.snapshots import Manifest, encode_manifest, image_digest
from cluster.start import Opened, open_data
from cluster.state import Position, next_chain
from statemachine import members as table
from statemachine.members import REMOVED, VOTER, Member
from statemachine.recovery import begin_anew
from statemachine.store import Overlay


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """What a survivor holds, and what becomes of it. Indexes are positions in the log.

    Kept is everything up to `last_index`: known to be committed up to `applied_index`, the `unconfirmed_entries` behind
    it perhaps. Lost is what it never got. `lost_members` are all others: their ids can never be used again. `revision`
    is that of `applied_index`; the new cluster goes on far above it.
    """

    cluster_id: str
    node_id: str
    applied_index: int
    revision: int
    last_index: int
    unconfirmed_entries: int
    lost_members: tuple[str, ...]
    new_cluster_id: str | None = None


@dataclass(slots=True)
class _Survivor:
    opened: Opened
    members: list[Member]

    def plan(self) -> RecoveryPlan:
        identity, journal, position = self.opened.identity, self.opened.journal, self.opened.state.position
        others = [member.node_id for member in self.members if member.node_id != identity.node_id]
        return RecoveryPlan(
            cluster_id=identity.cluster_id,
            node_id=identity.node_id,
            applied_index=position.index,
            revision=position.revision,
            last_index=journal.last_index,
            unconfirmed_entries=max(0, journal.last_index - position.index),
            lost_members=tuple(others),
        )


def plan_recovery(data_dir: Path, machine: ApplyEntry, limits: Limits | None = None) -> RecoveryPlan:
    """What `force_new_cluster` would keep and lose. The node is stopped; this does no more than a start of it does.

    Raises StartError: it runs, was removed, or what it holds is damaged.
    """
    with _survivor(data_dir, machine, limits or Limits()) as survivor:
        return survivor.plan()


def force_new_cluster(data_dir: Path, machine: ApplyEntry, limits: Limits | None = None) -> RecoveryPlan:
    """Make this stopped node a cluster of one with a new id and the state it has. There is no way back.

    May be run again where it was cut short: until it is done, the node is alone with a new cluster id, and no peer of
    the old cluster speaks with it. Raises StartError.
    """
    with _survivor(data_dir, machine, limits or Limits()) as survivor:
        plan = survivor.plan()
        opened = survivor.opened
        # FIRST: whatever comes half-way after this, nobody of the old cluster may hear of it.
        opened.identity = replace(
            opened.identity, cluster_id=secrets.token_hex(8), joined=None, journal_ids={}, held_at_least={}
        )
        opened.directory.save(opened.identity)
        _apply(opened, machine, opened.journal.last_index)
        _found_alone(opened, survivor.members)
        return replace(plan, new_cluster_id=opened.identity.cluster_id)


def _found_alone(opened: Opened, members: list[Member]) -> None:
    """State, then a snapshot of it, then the log that begins above everything that was ever in it."""
    journal, state, identity = opened.journal, opened.state, opened.identity
    term = max(journal.getCurrentTerm(), state.position.term)
    # Two above the end: the log must not take either for an entry that it holds, and keep what is behind it.
    index = max(journal.last_index, state.position.index) + 2
    _write_members(opened, members, index, term)
    previous, last = (NO_OP, index - 1, term), (NO_OP, index, term)
    capture = state.capture()
    try:
        for step in capture.write_steps():
            step()
        size, read = capture.image()
        digest = image_digest(read, size)
        capture.publish(
            encode_manifest(
                Manifest(1, identity.cluster_id, capture.position, previous, last, size, digest, (identity.node_id,))
            )
        )
    finally:
        capture.close()
    journal.clear()
    journal.add(*previous)
    journal.add(*last)
    journal.setRaftCommitIndex(index)
    journal.sync_blocking()


def _write_members(opened: Opened, members: list[Member], index: int, term: int) -> None:
    """This node alone votes, all other ids are used up, and no revision of the old cluster is given again."""
    identity, state = opened.identity, opened.state
    transaction = state.begin()
    overlay = Overlay(transaction)
    for member in members:
        if member.node_id != identity.node_id:
            table.put(overlay, Member(member.node_id, member.peer_address, member.http_address, REMOVED))
    own = next((member for member in members if member.node_id == identity.node_id), None)
    address, http = ("", "") if own is None else (own.peer_address, own.http_address)
    table.put(overlay, Member(identity.node_id, address, http, VOTER, bytes.fromhex(identity.journal_id)))
    revision = begin_anew(overlay)
    writes, position = overlay.writes(), state.position
    transaction.write(writes)
    chain = next_chain(position.chain, index, writes)
    transaction.commit(Position(index, term, chain, revision, position.time_ms))


@contextmanager
def _survivor(data_dir: Path, machine: ApplyEntry, limits: Limits) -> Iterator[_Survivor]:
    """The data of a stopped node, with everything applied that it knows to be committed."""
    identity = _identity(data_dir)
    if identity.rebuilding:
        raise StartError("this node was being rebuilt from the others, and has nothing of its own; take another one")
    options = ReplicaOptions(
        node_id=identity.node_id,
        data_dir=data_dir,
        peer_address="",
        http_address="",
        members=identity.joined or {identity.node_id: ""},
        cluster_secret=b"none is needed: nobody is spoken to",
        version="",
        limits=limits,
    )
    clock = SystemClock()
    opened = open_data(options, clock)
    try:
        # No further: the dry run must leave what a start in the old cluster can go on with.
        _apply(opened, machine, opened.journal.getRaftCommitIndex())
        with opened.state.view() as view:
            members = [member for member in table.scan(view) if member.role != REMOVED]
        # Before anything was replicated, whom this node has met is all that is known.
        yield _Survivor(opened, members or [Member(peer, "", "", VOTER) for peer in sorted(identity.journal_ids)])
        _end(opened)
    finally:
        opened.state.let_go()
        opened.disk.close()
        opened.directory.unlock()


def _apply(opened: Opened, machine: ApplyEntry, last_index: int) -> None:
    applier = Applier(opened.state, opened.journal, machine, SystemClock(), Metrics(), lambda *_: None)
    while opened.state.position.index < last_index:
        applier.apply(opened.state.position.index + 1, last_index)


def _identity(data_dir: Path) -> Identity:
    if not (data_dir / "node.json").exists():
        raise StartError(f"{data_dir} holds no node.json, so there is no node to recover")
    directory = DataDirectory(data_dir)
    try:
        identity = directory.load()
    finally:
        directory.unlock()
    if identity is None:
        raise StartError(f"{data_dir} holds no node")
    if identity.generation is None:
        raise StartError(f"node {identity.node_id} has never run; there is nothing to recover")
    return identity


def _end(opened: Opened) -> None:
    """Everything to disk, then the mark that says so."""
    opened.journal.sync_blocking()
    position = opened.state.position
    opened.state.close()
    clean = CleanMark(position.index, position.term)
    opened.directory.save(replace(opened.identity, generation=opened.state.generation, clean=clean))
    opened.journal.close()
