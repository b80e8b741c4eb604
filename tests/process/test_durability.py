"""SIGKILL under load: every acknowledged write stays, once; what "did not happen" did not; nobody had to help."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import pytest

from ops.failover import kill_leader
from tests.process.ledger import events_found, tasks_found
from tests.process.running import async_test, show
from tests.process.stage import Stage, cluster_of
from tests.process.writers import Writers, writing

pytestmark = pytest.mark.process

FULL = os.environ.get("HIVE_PROCESS_TESTS") == "full"
"""Ten leaders in a row, each under more load, instead of three."""

LEADER_KILLS = 10 if FULL else 3
WRITES_BETWEEN = 400 if FULL else 60
FAILOVER_MS_MAX = 30_000
"""No measure of speed, which belongs to the benchmark: this says that it happens by itself."""

TARGET = "load"
PROBES = "probes"


async def load(writers: Writers) -> None:
    await writers.events.more(WRITES_BETWEEN)
    await writers.tasks.more(WRITES_BETWEEN // 4)


async def kill_one_after_another(stage: Stage, writers: Writers) -> list[float]:
    """The leader again and again, a follower in between; returns the failover times in ms."""
    failovers_ms = []
    for _ in range(LEADER_KILLS):
        await load(writers)
        killed = await kill_leader(stage.cluster, stage.client, PROBES)
        failovers_ms.append(killed.failover_ms)
        await load(writers)
        await stage.start(killed.killed)
        follower = (await stage.follower_ids())[0]
        await stage.kill(follower)
        await load(writers)
        await stage.start(follower)
    return failovers_ms


def show_figures(failovers_ms: list[float], writers: Writers) -> None:
    figures = ", ".join(f"{ms:.0f}" for ms in failovers_ms)
    median = f"{statistics.median(failovers_ms):.0f}"
    show(f"SIGKILL of the leader to the next acknowledged write: {figures} ms; median {median} ms")
    for name, told in (("events", writers.events), ("tasks", writers.tasks)):
        counts = f"{len(told.acknowledged)} acknowledged, {len(told.not_happened)} not happened"
        show(f"{name}: {counts}, {len(told.unknown)} unknown")


@async_test(limit_s=900 if FULL else 120)
async def test_no_acknowledged_write_is_lost_whoever_is_killed(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data") as stage:
        await stage.client.sessions.create(session_id=TARGET)
        await stage.client.sessions.create(session_id=PROBES)
        async with writing(TARGET, stage.client) as writers:
            failovers_ms = await kill_one_after_another(stage, writers)
            await load(writers)
            await stage.kill(*stage.node_ids)
            await stage.start(*stage.node_ids)
            await load(writers)
        show_figures(failovers_ms, writers)
        assert max(failovers_ms) < FAILOVER_MS_MAX
        assert writers.events.broken_promises(await events_found(stage.client, TARGET)) == []
        assert writers.tasks.broken_promises(await tasks_found(stage.client, TARGET)) == []
        await stage.converged()
