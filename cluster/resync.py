"""Making a stopped node's data directory such that the node builds anew what is wrong with it: `hive resync`.

What can be kept is kept. Where the log is whole and reaches back to the beginning, only the state goes, and is made
again from the log: the node stays a voter. In every other case all goes but the identity: the node comes back as one
that counts for nothing until it has caught up (`rebuilding.py`), so that what it has forgotten harms nobody.

A snapshot of its own is never the way back: what was wrong with the state may be in it.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import lmdb
import msgspec

from cluster.identity import DataDirectory, Identity, StartError
from cluster.journal import JournalDamaged, JournalError, JournalMissing, JournalOptions
from cluster.journal.recovery import recover
from cluster.lmdb_state import frozen_view
from cluster.members import Configuration, as_started, read_configuration
from cluster.real.disk import DirectoryDisk

OTHERS_MIN = 2
"""A rebuild ends with an entry that a majority has without this node: with one other there is none."""

_PARTS = ("state", "snapshots", "log")


class ResyncRefusedError(Exception):
    """Nothing was changed. The text is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class ResyncPlan:
    """What is to be done. `keeps_log`: only the state is made anew; `why`: what was found, a sentence."""

    node_id: str
    cluster_id: str
    keeps_log: bool
    why: str
    bytes: int


def plan_resync(path: Path, *, everything: bool = False) -> ResyncPlan:
    """Look at a stopped node's directory; nothing is changed. `everything`: also a good log goes.

    Raises ResyncRefusedError, StartError (in use, not Hive's).
    """
    if not (path / "node.json").exists():
        raise ResyncRefusedError(
            f"{path} holds no node.json, so it is not known whose it is; remove the member from the cluster and add "
            "this machine under a new id"
        )
    directory = DataDirectory(path)
    try:
        identity = directory.load()
        if identity is None:
            raise AssertionError("node.json has gone while it was read")
        return _plan(path, identity, everything=everything)
    finally:
        directory.unlock()


def _plan(path: Path, identity: Identity, *, everything: bool) -> ResyncPlan:
    damage = "a rebuild was begun" if identity.rebuilding else _fault_of_log(path, identity)
    if not damage and everything:
        damage = "everything was asked for"
    known = _members_known(path, identity)
    others = (known.voters if known.founded else identity.journal_ids.keys()) - {identity.node_id}
    if damage and len(others) < OTHERS_MIN:
        raise ResyncRefusedError(
            f"{damage}, and this node knows {len(others)} other voters: two at least are needed to rebuild it. Bring "
            "the directory back from a copy; if the others are lost for good, see hive recover"
        )
    why = damage or identity.state_differs or "the log is whole, the state is made again from it"
    size = sum(file.stat().st_size for part in _PARTS for file in (path / part).rglob("*") if file.is_file())
    return ResyncPlan(identity.node_id, identity.cluster_id, not damage, why, size)


def _fault_of_log(path: Path, identity: Identity) -> str:
    """Why the log does not suffice to build the state from; empty if it does. Raises ResyncRefusedError."""
    if not (path / "log").is_dir():
        return "there is no log"
    try:
        disk = DirectoryDisk(path / "log")
        try:
            found = recover(disk, bytes.fromhex(identity.journal_id), JournalOptions())
        finally:
            disk.close()
    except (JournalDamaged, JournalMissing) as error:
        return str(error).partition("; ")[0]
    except (JournalError, OSError) as error:
        raise ResyncRefusedError(f"cannot read the log of {path}: {error}") from error
    first = found.replay.first_index
    return "" if first <= 1 else f"the log begins at entry {first}, and the state before it cannot be trusted"


def resync(path: Path, *, everything: bool = False) -> ResyncPlan:
    """Do what `plan_resync` says. Killed half-way it is done again, or ended by the next start. Raises as that, and
    OSError."""
    plan = plan_resync(path, everything=everything)
    directory = DataDirectory(path)
    try:
        identity = directory.load()
        if identity is None:
            raise AssertionError("node.json has gone while it was read")
        if plan.keeps_log:
            # The mark of a wrong state goes only when that state is gone.
            _delete(path, "state", "snapshots")
            directory.save(replace(identity, boot_id="resynced", clean=None, state_differs=""))
        else:
            known = _members_known(path, identity)
            # NODE.JSON FIRST: from here on no start takes what is left of the log for the whole.
            directory.save(
                replace(
                    identity,
                    boot_id="resynced",
                    clean=None,
                    state_differs="",
                    generation=None,
                    rebuilding=True,
                    joined=known.addresses() if known.founded else identity.joined,
                )
            )
            delete_everything(path)
    finally:
        directory.unlock()
    return plan


def _members_known(path: Path, identity: Identity) -> Configuration:
    """Who the members were when this node last knew it; the list it is started with may be older."""
    known = as_started(identity.joined or {})
    generation = path / "state" / f"gen-{identity.generation}"
    if identity.generation is not None and generation.exists():
        # A damaged state is one of the reasons to be here.
        with suppress(lmdb.Error, msgspec.DecodeError, ValueError), frozen_view(generation) as view:
            known = read_configuration(view, known)
    return known


def delete_everything(path: Path) -> None:
    """Delete log, state and snapshots. Raises OSError."""
    _delete(path, *_PARTS)


def _delete(path: Path, *parts: str) -> None:
    for part in parts:
        if (path / part).exists():
            shutil.rmtree(path / part)


__all__ = ["ResyncPlan", "ResyncRefusedError", "StartError", "delete_everything", "plan_resync", "resync"]
