"""Damaged bytes in log, state or snapshot of one node: it refuses or takes itself out of service, and comes back whole
with `hive resync`, with nothing lost."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from hive_client import HiveError, Unavailable

from tests.process.log_files import flip_bit, newest_segment, overwrite
from tests.process.running import async_test, until
from tests.process.stage import Stage, cluster_of

pytestmark = pytest.mark.process

SESSION = "s"
EVENTS = 10
FAILED = 1
OPTIONS = ("--log-keep-bytes", str(1 << 20), "--state-check-ms", "50")
MARK = b"a text that is easily found"
BLOCK = "x" * 200_000


async def hive(*words: str) -> tuple[int, str]:
    """The command line as an operator runs it: exit status, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-c",
        "from ops.cli import main; main()",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def resync(stage: Stage, node_id: str) -> str:
    """Look, then do it; what the look said."""
    words = ("resync", "--data-dir", str(stage.directory(node_id)))
    status, plan = await hive(*words)
    assert status == 0, plan
    assert "nothing was changed; --yes does it" in plan
    status, done = await hive(*words, "--yes")
    assert status == 0, done
    assert f"done: start node {node_id} now" in done
    return plan


async def append(stage: Stage, count: int = EVENTS, text: str = MARK.decode()) -> None:
    for _ in range(count):
        await stage.client.sessions.append(SESSION, type="custom.line", data={"text": text})


async def trimmed(stage: Stage, node_id: str) -> None:
    """Write more than the log keeps, and have a node take a snapshot."""
    await append(stage, 12, BLOCK)
    await stage.converged()
    async with stage.client_of(node_id) as client:
        await client.cluster.snapshot()

    async def look() -> bool | None:
        return True if int((await stage.status(node_id)).raw["first_index"]) > 1 else None

    await until(look)


async def is_whole(stage: Stage, node_id: str, events: int) -> None:
    """It has everything, and counts: with another node gone, writes need it."""
    await stage.converged()
    async with stage.client_of(node_id) as client:
        assert [event.seq async for event in client.sessions.iterate_events(SESSION)] == list(range(1, events + 1))
    other = next(other for other in stage.node_ids if other != node_id)
    await stage.kill(other)
    await append(stage, 1)
    await stage.start(other)
    await stage.converged()


async def damaged_log_refuses(stage: Stage, node_id: str) -> None:
    await stage.kill(node_id)
    segment = newest_segment(stage.directory(node_id))
    flip_bit(segment.path, segment.groups[len(segment.groups) // 2] + 40)
    await stage.start_only(node_id)
    assert await stage.ended(node_id) == FAILED
    last = stage.cluster.nodes[node_id].last_line()
    assert "the log is damaged" in last
    assert "hive resync" in last


@async_test()
async def test_damaged_log(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", OPTIONS) as stage:
        await stage.client.sessions.create(session_id=SESSION)
        await append(stage)
        await stage.converged()
        for node_id in (await stage.follower_ids())[0], await stage.leader_id():
            await damaged_log_refuses(stage, node_id)
            plan = await resync(stage, node_id)
            assert "the log is damaged" in plan
            assert "counts for nothing until it has caught up" in plan
            await stage.start(node_id)
            assert "rebuilt from the others" in stage.log_of(node_id)
        await is_whole(stage, node_id, EVENTS)


@async_test()
async def test_damaged_log_when_the_others_have_trimmed_theirs(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", OPTIONS) as stage:
        await stage.client.sessions.create(session_id=SESSION)
        node_id = (await stage.follower_ids())[0]
        for other in stage.node_ids:
            await trimmed(stage, other)
        await damaged_log_refuses(stage, node_id)
        await resync(stage, node_id)
        await stage.start(node_id)
        await is_whole(stage, node_id, 36)


@async_test()
async def test_damaged_snapshot_of_a_node_whose_state_is_lost(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", OPTIONS) as stage:
        await stage.client.sessions.create(session_id=SESSION)
        node_id = (await stage.follower_ids())[0]
        await trimmed(stage, node_id)
        await stage.kill(node_id)
        (image,) = (stage.directory(node_id) / "snapshots").glob("*/image")
        flip_bit(image, image.stat().st_size // 2)
        shutil.rmtree(stage.directory(node_id) / "state")
        await stage.start_only(node_id)
        assert await stage.ended(node_id) == FAILED
        last = stage.cluster.nodes[node_id].last_line()
        assert "its image does not match its digest" in last
        assert "hive resync" in last
        assert "the log begins at entry" in await resync(stage, node_id)
        await stage.start(node_id)
        await is_whole(stage, node_id, 12)


async def out_of_service(stage: Stage, node_id: str) -> None:
    """It says so in its status, its readiness, its metrics and its log, and serves nothing."""

    async def look() -> bool | None:
        try:
            return True if "state_differs" in (await stage.status(node_id)).raw["alarms"] else None
        except HiveError:
            return None  # it is only about to start

    await until(look)
    assert "out of service: at entry" in stage.log_of(node_id)
    assert "run hive resync" in stage.log_of(node_id)
    async with stage.client_of(node_id) as client:
        assert not (await client.cluster.readyz()).ok
        assert not (await client.cluster.readyz(stale=True)).ok
        assert (await client.cluster.livez()).ok
        with pytest.raises(Unavailable) as refused:
            await client.sessions.get(SESSION, timeout_s=0.5)
        assert refused.value.code == "too_stale"
        with pytest.raises(HiveError):
            await client.sessions.create(timeout_s=0.5)
    others = [await stage.status(other) for other in stage.node_ids if other != node_id]
    assert [status.raw["alarms"] for status in others] == [[], []]
    assert await stage.leader_id() != node_id


@pytest.mark.parametrize("role", ["follower", "leader"])
@async_test()
async def test_byte_of_the_state_that_changes(tmp_path: Path, role: str) -> None:
    """Nothing reads the byte, and no page of LMDB has a checksum: only the comparison with the others sees it."""
    async with cluster_of(3, tmp_path / "data", OPTIONS) as stage:
        await stage.client.sessions.create(session_id=SESSION)
        await append(stage)
        await stage.converged()
        node_id = await stage.leader_id() if role == "leader" else (await stage.follower_ids())[0]
        await stage.kill(node_id)
        (state,) = (stage.directory(node_id) / "state").glob("gen-*/data.mdb")
        data, at = state.read_bytes(), -1
        while (at := data.find(MARK, at + 1)) >= 0:
            overwrite(state, at, b"A")
        await stage.start_only(node_id)
        await out_of_service(stage, node_id)
        await append(stage, 1)
        await stage.kill(node_id)
        await stage.start_only(node_id)
        await out_of_service(stage, node_id)

        assert await stage.stop(node_id) == 0
        plan = await resync(stage, node_id)
        assert "is not that of the majority" in plan
        assert "the node stays a voter" in plan
        await stage.start(node_id)
        await is_whole(stage, node_id, EVENTS + 1)


@async_test()
async def test_resync_of_what_cannot_be_rebuilt(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path / "data") as stage:
        (node_id,) = stage.node_ids
        await stage.client.sessions.create(session_id=SESSION)
        words = ("resync", "--data-dir", str(stage.directory(node_id)))
        status, said = await hive(*words, "--yes")
        assert status == FAILED
        assert "in use by another process" in said
        await stage.kill(node_id)
        status, said = await hive(*words, "--everything", "--yes")
        assert status == FAILED
        assert "two at least are needed to rebuild it" in said
        status, said = await hive("resync", "--data-dir", str(tmp_path), "--yes")
        assert status == FAILED
        assert "holds no node.json" in said
        await stage.start(node_id)
        assert (await stage.client.sessions.get(SESSION)).session_id == SESSION
