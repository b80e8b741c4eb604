"""Whom the members let in: not who lacks the secret, not who comes back with another journal or an older one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgpack
import pytest
from hive_client import ClusterStatus

from cluster.real.wire import Decoder, encode
from ops.addresses import HOST
from tests.process.log_files import tear_last_entry
from tests.process.running import async_test, until
from tests.process.stage import Stage, cluster_of

pytestmark = pytest.mark.process

STOPPED_BY_FAULT = 70
SESSION = "s"


async def log_says(stage: Stage, node_id: str, text: str) -> None:
    async def look() -> bool | None:
        return True if text in stage.log_of(node_id) else None

    await until(look)


@async_test()
async def test_wrong_secret_does_not_join_and_says_so(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data") as stage:
        outsider = (await stage.follower_ids())[0]
        assert await stage.stop(outsider) == 0
        secret_file = stage.data_dir / "cluster.secret"
        right = secret_file.read_text()
        secret_file.write_text("quite another secret, long enough\n")
        await stage.start_only(outsider)
        told = "the cluster secret differs: give all nodes the same --cluster-secret-file"
        await log_says(stage, outsider, told)
        insider = next(node_id for node_id in stage.node_ids if node_id != outsider)
        await log_says(stage, insider, told)
        assert (await stage.client.cluster.livez(stage.endpoint(outsider))).ok
        assert not (await stage.client.cluster.readyz(stage.endpoint(outsider))).ok
        assert (await stage.status(outsider)).leader_id is None
        async with stage.client_of(insider) as client:
            await client.sessions.create(session_id=SESSION)
        assert (await stage.status(outsider)).revision == 0

        await stage.kill(outsider)
        secret_file.write_text(right)
        await stage.start(outsider)
        assert (await stage.converged())[0].revision >= 1


@async_test()
async def test_emptied_directory_of_a_known_node_is_refused(tmp_path: Path) -> None:
    """It has forgotten its votes and what it acknowledged: if it voted again, acknowledged writes could be lost."""
    async with cluster_of(3, tmp_path / "data") as stage:
        await stage.client.sessions.create(session_id=SESSION)
        emptied = (await stage.follower_ids())[0]
        await stage.kill(emptied)
        shutil.move(stage.directory(emptied), tmp_path / "kept")
        await stage.start_only(emptied)
        assert await stage.ended(emptied) == STOPPED_BY_FAULT
        last = stage.cluster.nodes[emptied].last_line()
        assert f"node {emptied} was known here with another journal" in last
        assert "Bring the old directory back, or add the node under an id that was never used" in last

        shutil.rmtree(stage.directory(emptied))
        shutil.move(tmp_path / "kept", stage.directory(emptied))
        await stage.start(emptied)
        await stage.converged()


@async_test()
async def test_node_that_lost_what_it_acknowledged_is_refused(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data") as stage:
        await stage.client.sessions.create(session_id=SESSION)
        await stage.converged()
        forgetful = (await stage.follower_ids())[0]
        await stage.kill(forgetful)
        tear_last_entry(stage.directory(forgetful))
        await stage.start_only(forgetful)
        assert await stage.ended(forgetful) == STOPPED_BY_FAULT
        assert "has lost log entries it once acknowledged" in stage.cluster.nodes[forgetful].last_line()
        await stage.client.sessions.append(SESSION, type="custom.still_here")


async def say_without_secret(stage: Stage, node_id: str, word: dict[str, object]) -> None:
    """Connect to a node's peer port as a stranger and say something in place of the proof."""
    reader, writer = await asyncio.open_connection(HOST, stage.cluster.plans[node_id].peer_port)
    hello = {"node_id": node_id, "cluster_id": "", "protocol": 1}
    writer.write(encode({"nonce": bytes(range(32)), "hello": msgpack.packb(hello)}))
    writer.write(encode(word))
    decoder = Decoder()
    messages: list[object] = []
    while data := await reader.read(65_536):
        messages += decoder.feed(data)
    writer.close()
    assert len(messages) == 2, "its nonce and its proof, and nothing to who proved nothing"


@async_test()
async def test_stranger_cannot_talk_a_node_into_stopping(tmp_path: Path) -> None:
    """A node ends when a member says that its journal is unknown. Only a member may say that."""
    async with cluster_of(3, tmp_path / "data") as stage:
        for node_id in stage.node_ids:
            await say_without_secret(stage, node_id, {"refused": f"journal_unknown: node {node_id} is to stop"})
            await say_without_secret(stage, node_id, {"proof": bytes(32)})
        statuses: list[ClusterStatus] = [await stage.status(node_id) for node_id in stage.node_ids]
        assert [status.has_quorum for status in statuses] == [True] * 3
