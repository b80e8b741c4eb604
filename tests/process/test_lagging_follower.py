"""A follower that was away for longer than the log reaches back gets a snapshot, and then the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.running import async_test, until
from tests.process.stage import Stage, cluster_of

pytestmark = pytest.mark.process

SESSION = "s"
MIB = 1 << 20
SMALL_LOG = ("--log-keep-bytes", str(MIB))
BLOCK = "x" * 200_000


async def append_blocks(stage: Stage, count: int) -> int:
    """Events that together outgrow what the log keeps; the last seq."""
    last_seq = 0
    for _ in range(count):
        last_seq = (await stage.client.sessions.append(SESSION, type="custom.block", data={"text": BLOCK})).last_seq
    return last_seq


async def snapshot_everywhere(stage: Stage, node_ids: list[str]) -> int:
    """Have each node take a snapshot and trim its log; the lowest index that any of them still has."""
    first_indexes = []
    for node_id in node_ids:
        async with stage.client_of(node_id) as client:
            await client.cluster.snapshot()

        async def trimmed(node_id: str = node_id) -> int | None:
            first_index = int((await stage.status(node_id)).raw["first_index"])
            return first_index if first_index > 1 else None

        first_indexes.append(await until(trimmed))
    return min(first_indexes)


@async_test()
async def test_follower_behind_the_log_is_given_a_snapshot(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SMALL_LOG) as stage:
        await stage.client.sessions.create(session_id=SESSION)
        before = await stage.converged()
        absent = (await stage.follower_ids())[0]
        await stage.kill(absent)
        await append_blocks(stage, 12)
        present = [node_id for node_id in stage.node_ids if node_id != absent]
        assert await snapshot_everywhere(stage, present) > before[0].applied_index
        last_seq = await append_blocks(stage, 2)

        await stage.start(absent)
        after = await stage.converged()
        shown = next(status for status in after if status.node_id == absent)
        assert shown.raw["snapshot_index"] > before[0].applied_index, "it was given a snapshot"
        async with stage.client_of(absent) as client:
            events = [event async for event in client.sessions.iterate_events(SESSION)]
        assert [event.seq for event in events] == list(range(1, last_seq + 1))
        assert all(event.data["text"] == BLOCK for event in events)


@async_test()
async def test_follower_killed_while_it_is_given_a_snapshot(tmp_path: Path) -> None:
    """Again and again, at whatever point of it: in the end it has all, and the same as the others."""
    async with cluster_of(3, tmp_path / "data", SMALL_LOG) as stage:
        await stage.client.sessions.create(session_id=SESSION)
        absent = (await stage.follower_ids())[0]
        await stage.kill(absent)
        await append_blocks(stage, 30)
        await snapshot_everywhere(stage, [node_id for node_id in stage.node_ids if node_id != absent])
        seen = stage.log_of(absent).count("fetching snapshot")
        for _ in range(3):
            await stage.start_only(absent)

            async def fetching(seen: int = seen) -> bool | None:
                running = stage.cluster.nodes[absent].running
                assert running, "it ended by itself"
                caught_up = stage.log_of(absent).count("fetching snapshot") == seen
                return None if caught_up else True

            await until(fetching)
            await stage.kill(absent)
            seen = stage.log_of(absent).count("fetching snapshot")
            await append_blocks(stage, 8)
            await snapshot_everywhere(stage, [node_id for node_id in stage.node_ids if node_id != absent])
        await stage.start(absent)
        await stage.converged()
