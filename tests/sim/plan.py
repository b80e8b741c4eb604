"""What a seed is about: each one gets its own sizes, speeds and kinds of trouble, so that together they cover much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import cluster.applier
import cluster.core
import cluster.snapshots
import statemachine.limits
from cluster.settings import Limits, Timings
from tests.sim.abuse import poisoned_handlers
from tests.sim.faults import KINDS

TICK_S = 0.02
"""Four times the real one: what is urgent is pumped at once, so it only costs time."""

TIMINGS = Timings(
    heartbeat_ms=100,
    election_timeout_min_ms=400,
    election_timeout_max_ms=800,
    fallback_ms=1_000,
    disk_stall_ms=1_500,
    promote_stable_ms=600,
)


FOCI: dict[str, tuple[str, ...]] = {
    "all": tuple(sorted(KINDS)),
    "snapshots": ("isolate", "partition", "kill", "power", "reset", "stall", "transfer", "link") + ("snapshot",) * 4,
    "rebuilds": ("resync",) * 3 + ("isolate", "partition", "kill", "power", "reset", "transfer", "snapshot", "pause"),
    "clocks": ("clock",) * 4 + ("kill", "isolate", "transfer", "pause", "reset"),
    "leases": ("pause", "pause_all", "isolate", "partition", "link", "reset", "transfer", "kill", "stall", "clock"),
    "disks": ("disk_full", "disk_full", "disk_error", "stall", "power", "power_all", "kill", "snapshot"),
    "members": ("isolate", "partition", "link", "reset", "transfer", "kill", "power", "power_all", "pause", "snapshot")
    + ("resync",) * 2,
    "divergence": ("isolate", "partition", "power", "link", "transfer", "reset", "pause", "stall"),
}
"""Kinds of trouble that belong together. Most seeds take from all; the others go deep into one part."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The dice of one seed."""

    nodes: int
    focus: str
    trouble_s: float
    fault_pause_s: float
    load_pause_s: float
    kinds: tuple[str, ...]
    disk_s: float
    delay_s: float
    in_flight_bytes_max: int
    chunk_bytes: int
    slice_s: float
    limits: Limits
    fleet: bool = False
    writer: bool = False
    changes_kept_max: int = 1_000_000
    operator: bool = False


def plan_of(seed: int, nodes: int, trouble_s: float, focus: str | None) -> Plan:
    """Throw the dice."""
    rng = Random(f"plan {seed}")
    thrown = rng.choice(("all", "all", "all", "snapshots", "divergence", "clocks", "leases", "disks", "members"))
    focus = focus or thrown
    deep = focus != "all"
    kinds = rng.sample(FOCI[focus], rng.randrange(len(FOCI[focus]) - 2 if deep else 3, len(FOCI[focus])))
    images = focus == "snapshots"
    return Plan(
        nodes=nodes,
        focus=focus,
        trouble_s=trouble_s,
        fault_pause_s=rng.choice((0.25, 0.5, 1.0)),
        load_pause_s=rng.choice((0.01, 0.02) if deep else (0.02, 0.04, 0.08)),
        kinds=tuple(kinds),
        disk_s=rng.choice((0.002, 0.01) if deep else (0.0003, 0.002, 0.01)),
        delay_s=rng.choice((0.002, 0.02) if deep else (0.0003, 0.002, 0.02)),
        in_flight_bytes_max=rng.choice((20_000, 200_000, 64 << 20)),
        chunk_bytes=rng.choice((4_000, 20_000) if images else (10_000, 200_000)),
        slice_s=rng.choice((0.02, -1.0)),
        limits=Limits(
            segment_bytes=rng.choice((4_096, 16_384, 65_536)),
            log_cache_bytes=rng.choice((2_000, 1 << 20)),
            log_keep_bytes=rng.choice((0, 1_000) if images else (0, 2_000, 20_000)),
            snapshot_log_bytes=rng.choice((1_000, 3_000) if images else (3_000, 20_000, 200_000)),
            uncommitted_bytes_max=rng.choice((20_000, 64 << 20)),
            # Many entries under way at once find other faults than few with many writes.
            entry_enough_commands=1 if seed % 2 else 128,
        ),
        fleet=focus == "leases" or (focus == "all" and rng.random() < 0.2),
        writer=rng.random() < 0.5,
        changes_kept_max=rng.choice((50, 1_000_000)),
        # With one or two voters left nobody would know whose clock is wrong.
        operator=focus == "members" or (focus == "all" and rng.random() < 0.2 and "clock" not in kinds),
    )


@contextmanager
def settings_of(plan: Plan) -> Iterator[None]:
    """Module constants as this plan wants them."""
    wanted = (
        (cluster.core, "TICK_S", TICK_S),
        (cluster.snapshots, "_CHUNK_BYTES", plan.chunk_bytes),
        (cluster.applier, "_SLICE_S", plan.slice_s),
        (statemachine.limits, "CHANGES_KEPT_MAX", plan.changes_kept_max),
    )
    before = [getattr(owner, name) for owner, name, _ in wanted]
    for owner, name, value in wanted:
        setattr(owner, name, value)
    try:
        with poisoned_handlers():
            yield
    finally:
        for (owner, name, _), value in zip(wanted, before, strict=True):
            setattr(owner, name, value)
