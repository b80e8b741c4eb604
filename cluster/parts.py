"""The parts of a core that are made of much of it: each with what it needs of the others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.election import Elections
from cluster.engine import ApplyEntries, Engine
from cluster.host import GuardedExecutor, Host
from cluster.intake import Intake, Refuse
from cluster.snapshots import Snapshots

if TYPE_CHECKING:
    from cluster.core import Core


def make_snapshots(core: Core, host: Host, on_fetched: Callable[..., None]) -> Snapshots:
    """The snapshots of its state; `on_fetched` is told when one of a peer is here."""
    return Snapshots(
        core.state,
        GuardedExecutor(host.snapshot_executor, core.guarded),
        core.clock,
        core.metrics,
        cluster_id=core.options.cluster_id,
        members=lambda: tuple(sorted(core.membership.current.members)),
        send=core.send,
        on_fetched=on_fetched,
        on_failure=core.fail,
    )


def make_engine(core: Core, apply_entries: ApplyEntries) -> Engine:
    """The engine over its journal, transport and snapshots."""
    return Engine(
        core.options.node_id,
        sorted(core.membership.current.voters),
        journal=core.journal,
        transport=core.transport,
        snapshots=core.snapshots,
        apply_entries=apply_entries,
        on_state_changed=core.schedule_pump,
        clock=core.clock,
        rng=random.Random(core.options.seed),
        timings=core.options.timings,
        limits=core.options.limits,
    )


def make_elections(core: Core, may_campaign: Callable[[], bool]) -> Elections:
    """The rules of its elections."""
    return Elections(
        core.engine,
        core.journal,
        core.clock,
        core.options.timings,
        core.membership.current.voters,
        node_id=core.options.node_id,
        broadcast=core.broadcast,
        send=core.send,
        may_campaign=may_campaign,
        may_vote=core.peers.may_vote,
        has_quorum_contact=core.has_quorum,
        members_unapplied=core.membership.unapplied,
    )


def make_intake(core: Core, refuse: Refuse) -> Intake:
    """The leader's side of writes."""
    return Intake(
        core.engine,
        core.journal,
        core.options.limits,
        time_known=lambda: core.entry_time.known,
        entry_time_ms=core.entry_time.stamp_ms,
        refuse=refuse,
    )
