"""A majority is lost for good: one of three survives, and becomes a cluster again, with what it had."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.ops.command_line import Printed, hive
from tests.process.running import async_test, until
from tests.process.stage import Stage, cluster_of

pytestmark = pytest.mark.process

SESSION = "s"
SOON = ("--promote-stable-ms", "300")
EVENTS = 20


async def recover(stage: Stage, node_id: str, *options: str) -> Printed:
    return await asyncio.to_thread(hive, "recover", "--data-dir", str(stage.directory(node_id)), *options)


async def documented(stage: Stage, node_id: str, *options: str) -> dict[str, Any]:
    printed = await recover(stage, node_id, *options, "--json")
    assert printed.status == 0, printed.stderr
    document: dict[str, Any] = json.loads(printed.stdout)
    return document


async def a_cluster_that_was(stage: Stage) -> tuple[str, str]:
    """Writes, then all nodes die; (survivor, cluster id)."""
    await stage.client.sessions.create(session_id=SESSION)
    for _ in range(EVENTS):
        await stage.client.sessions.append(SESSION, type="custom.before")
    survivor, cluster_id = (await stage.follower_ids())[0], (await stage.converged())[0].cluster_id
    await stage.kill(*stage.node_ids)
    return survivor, cluster_id


async def log_of(stage: Stage, node_id: str, words: str) -> None:
    async def look() -> bool | None:
        return True if words in stage.log_of(node_id) else None

    await until(look)


@async_test(limit_s=120)
async def test_one_survivor_of_three_becomes_a_cluster_that_grows_again(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SOON) as stage:
        survivor, cluster_id = await a_cluster_that_was(stage)
        lost = [node_id for node_id in stage.node_ids if node_id != survivor]
        plan = await documented(stage, survivor, "--force-new-cluster")
        assert (plan["node_id"], plan["cluster_id"], plan["done"]) == (survivor, cluster_id, False)
        assert (plan["lost_members"], plan["new_cluster_id"]) == (lost, None)
        assert plan["revision"] >= EVENTS

        done = await documented(stage, survivor, "--force-new-cluster", "--yes")
        assert done["done"] is True
        assert done["new_cluster_id"] not in (None, cluster_id)
        # Its command line still names the old members; its data knows better.
        await stage.start(survivor)
        status = await stage.status(survivor)
        assert (status.cluster_id, status.has_quorum) == (done["new_cluster_id"], True)
        assert [member.node_id for member in status.members] == [survivor]
        async with stage.client_of(survivor) as client:
            assert (await client.sessions.get(SESSION, consistency="linearizable")).last_seq == EVENTS
            appended = await client.sessions.append(SESSION, type="custom.after")
            assert appended.first_seq == EVENTS + 1

        await an_old_member_is_not_let_in(stage, lost[0], survivor)
        for node_id in lost:
            stage.cluster.forget(node_id)
        for node_id in ("n8", "n9"):
            await stage.join(node_id)
        assert {seen.node_id for seen in await stage.converged()} == {survivor, "n8", "n9"}
        await stage.kill(survivor)
        async with stage.client_of("n9") as client:
            assert (await client.sessions.append(SESSION, type="custom.again")).first_seq == EVENTS + 2
        await stage.start(survivor)
        await stage.converged()


async def an_old_member_is_not_let_in(stage: Stage, old: str, survivor: str) -> None:
    """It speaks for another cluster, and its id is used up in the new one."""
    await stage.start_only(old)
    await log_of(stage, old, "it belongs to another cluster")
    assert [member.node_id for member in (await stage.status(survivor)).members] == [survivor]
    assert (await stage.status(old)).leader_id is None
    await stage.kill(old)
    shutil.rmtree(stage.directory(old))


@async_test(limit_s=60)
async def test_a_dry_run_changes_nothing_that_counts(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SOON) as stage:
        survivor, cluster_id = await a_cluster_that_was(stage)
        for options in ((), ("--force-new-cluster",)):
            said = await recover(stage, survivor, *options)
            assert said.status == 0, said.stderr
            assert "nothing was changed; --force-new-cluster --yes does it" in said.stdout
            assert cluster_id in said.stdout
        await stage.start(*stage.node_ids)
        assert {seen.cluster_id for seen in await stage.converged()} == {cluster_id}
        assert (await stage.client.sessions.get(SESSION)).last_seq == EVENTS
        running = await recover(stage, survivor, "--force-new-cluster", "--yes")
        assert (running.status, running.stderr.count("\n")) == (1, 1)
        assert "stop that node first" in running.stderr
        assert {seen.cluster_id for seen in await stage.converged()} == {cluster_id}


def test_what_cannot_be_recovered_is_one_line(tmp_path: Path) -> None:
    for directory in (tmp_path / "nothing", tmp_path):
        refused = hive("recover", "--data-dir", str(directory), "--force-new-cluster", "--yes")
        assert (refused.status, refused.stderr.count("\n")) == (1, 1)
        assert "holds no node.json" in refused.stderr
        assert list(tmp_path.iterdir()) == []
    assert hive("recover", "--data-dir", str(tmp_path), "--yes").status == 2
    assert hive("recover").status == 2
