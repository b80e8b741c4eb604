"""What a seed is about: each one gets its own sizes, speeds and kinds of trouble, so that together they cover much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import cluster.applier
import cluster.core
import cluster.snapshots
from cluster.settings import Limits, Timings
from tests.sim.faults import KINDS

TICK_S = 0.02
"""Four times the real one: what is urgent is pumped at once, so it only costs time."""

TIMINGS = Timings(
    heartbeat_ms=100,
    election_timeout_min_ms=400,
    election_timeout_max_ms=800,
    fallback_ms=1_000,
    disk_stall_ms=1_500,
)


FOCI: dict[str, tuple[str, ...]] = {
    "all": tuple(sorted(KINDS)),
    "snapshots": ("isolate", "partition", "kill", "power", "reset", "stall", "transfer", "link") + ("snapshot",) * 4,
    "clocks": ("clock",) * 4 + ("kill", "isolate", "transfer", "pause", "reset"),
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


def plan_of(seed: int, nodes: int, trouble_s: float, focus: str | None) -> Plan:
    """Throw the dice."""
    rng = Random(f"plan {seed}")
    thrown = rng.choice(("all", "all", "all", "snapshots", "divergence", "clocks"))
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
        ),
    )


@contextmanager
def settings_of(plan: Plan) -> Iterator[None]:
    """Module constants as this plan wants them."""
    wanted = (
        (cluster.core, "TICK_S", TICK_S),
        (cluster.snapshots, "_CHUNK_BYTES", plan.chunk_bytes),
        (cluster.applier, "_SLICE_S", plan.slice_s),
    )
    before = [getattr(owner, name) for owner, name, _ in wanted]
    for owner, name, value in wanted:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(wanted, before, strict=True):
            setattr(owner, name, value)
