"""Full disks: at a first start, under load, at a restart. With room again, all that was acknowledged is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hive_client import Client, OutcomeUnknown, Unavailable

from tests.process.disks import fill, memory_disk, remount
from tests.process.lone_node import LoneNode, alone, refusal_of, running
from tests.process.running import async_test

pytestmark = pytest.mark.process

FAILED = 1
STOPPED_BY_FAULT = 70
SEGMENTS_MIB = 128
"""What the log reserves from the start."""
BLOCK = "x" * 60_000
SESSION = "s"


@async_test(limit_s=60)
async def test_disk_too_small_for_a_start(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk", 4) as disk:
        options = alone(disk / "n1")
        refusal = await refusal_of(options.words)
        assert refusal.status == FAILED
        assert f"cannot use data directory {options.data_dir}: No space left on device" in refusal.error
        assert "free some space" in refusal.error
        remount(disk, f"size={SEGMENTS_MIB + 32}m")
        async with running(options, tmp_path / "log") as node:
            await node.ready()
            await node.client.sessions.create(session_id=SESSION)
            assert await node.stop() == 0


async def write_until_it_stops(client: Client) -> list[int]:
    """Events into a session until the node is gone; the seqs that were acknowledged."""
    acknowledged: list[int] = []
    while True:
        try:
            done = await client.sessions.append(SESSION, type="custom.block", data={"text": BLOCK}, timeout_s=3.0)
        except (OutcomeUnknown, Unavailable):
            return acknowledged
        acknowledged.append(done.last_seq)


async def stopped_by_full_disk(node: LoneNode) -> None:
    status = await node.process.wait()
    assert status == STOPPED_BY_FAULT
    last = node.process.last_line()
    assert "stopping at once" in last
    assert "No space left on device" in last
    assert "free some space" in last


@async_test(limit_s=90)
async def test_disk_that_fills_up_under_load(tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk", SEGMENTS_MIB + 16) as disk:
        options = alone(disk / "n1")
        async with running(options, tmp_path / "log") as node:
            await node.ready()
            await node.client.sessions.create(session_id=SESSION)
            ballast = fill(disk)
            acknowledged = await write_until_it_stops(node.client)
            await stopped_by_full_disk(node)
        ballast.unlink()
        async with running(options, tmp_path / "log") as node:
            await node.ready()
            found = [event.seq async for event in node.client.sessions.iterate_events(SESSION)]
            # The write under way when the disk was full may be there or not; nothing else may differ.
            assert found in (acknowledged, [*acknowledged, len(acknowledged) + 1])
            done = await node.client.sessions.append(SESSION, type="custom.block", data={"text": BLOCK})
            assert done.last_seq == len(found) + 1
            assert await node.stop() == 0


@async_test(limit_s=60)
async def test_full_disk_still_answers_for_its_data_after_a_restart(tmp_path: Path) -> None:
    """Full when it starts again: it serves what it has or says why not, and loses nothing."""
    with memory_disk(tmp_path / "disk", SEGMENTS_MIB + 16) as disk:
        options = alone(disk / "n1")
        async with running(options, tmp_path / "log") as node:
            await node.ready()
            await node.client.sessions.create(session_id=SESSION)
            await node.process.kill()
        ballast = fill(disk)
        refusal = await refusal_of(options.words)
        assert refusal.status == FAILED
        assert "No space left on device; free some space" in refusal.error
        ballast.unlink()
        async with running(options, tmp_path / "log") as node:
            await node.ready()
            assert (await node.client.sessions.get(SESSION)).session_id == SESSION
            assert await node.stop() == 0
