"""Members that come and go while writes go on: nothing is lost, and who was removed stays away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hive_client.errors import NodeIdUsed, QuorumAtRisk
from hive_client.models import Member

from ops.addresses import HOST
from ops.local_cluster import NodePlan
from ops.node import node_command
from ops.process import ChildProcess
from tests.process.ledger import events_found, tasks_found
from tests.process.lone_node import refusal_of
from tests.process.ports import node_ports
from tests.process.running import async_test, until
from tests.process.stage import STOP_GRACE_S, Stage, cluster_of
from tests.process.writers import Writers, writing

pytestmark = pytest.mark.process

TARGET = "load"
SOON = ("--promote-stable-ms", "300")
FAILED = 1
MISSED_AFTER_MS = 2_000


async def load(writers: Writers) -> None:
    await writers.events.more(30)
    await writers.tasks.more(8)


async def kept_its_word(stage: Stage, writers: Writers) -> None:
    assert writers.events.broken_promises(await events_found(stage.client, TARGET)) == []
    assert writers.tasks.broken_promises(await tasks_found(stage.client, TARGET)) == []


async def voters(stage: Stage) -> set[str]:
    members = await stage.client.cluster.members(consistency="linearizable")
    return {member.node_id for member in members if member.voter}


def arguments_of(process: ChildProcess) -> list[str]:
    """The options of a node's command line."""
    return process.command[process.command.index("node") + 1 :]


@async_test(limit_s=240)
async def test_from_one_to_three_to_five_and_back_under_load(tmp_path: Path) -> None:
    async with cluster_of(1, tmp_path / "data", SOON) as stage:
        await stage.client.sessions.create(session_id=TARGET)
        async with writing(TARGET, stage.client) as writers:
            await load(writers)
            for node_id in ("n2", "n3", "n4", "n5"):
                await stage.join(node_id)
                await load(writers)
            assert await voters(stage) == {"n1", "n2", "n3", "n4", "n5"}
            # The writers know n1 only, so that one stays.
            for node_id in ("n2", "n4"):
                assert await stage.remove(node_id) != 0
                stage.cluster.forget(node_id)
                await load(writers)
            assert await voters(stage) == {"n1", "n3", "n5"}
            # A majority of what is left carries on without the third.
            await stage.kill("n3")
            await load(writers)
            await stage.start("n3")
            await load(writers)
        await kept_its_word(stage, writers)
        assert {status.node_id for status in await stage.converged()} == {"n1", "n3", "n5"}


@async_test(limit_s=120)
async def test_the_leader_is_removed_under_load_and_cannot_come_back(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SOON) as stage:
        await stage.client.sessions.create(session_id=TARGET)
        leader_id = await stage.leader_id()
        async with writing(TARGET, stage.client) as writers:
            await load(writers)
            status = await stage.remove(leader_id)
            await load(writers)
        assert status != 0
        assert "was removed from the cluster" in stage.cluster.nodes[leader_id].last_line()
        assert leader_id not in await voters(stage)
        await kept_its_word(stage, writers)

        await stage.start_only(leader_id)
        assert await stage.ended(leader_id) != 0
        assert "was removed from the cluster" in stage.cluster.nodes[leader_id].last_line()
        await cannot_join_again(stage, leader_id)


async def cannot_join_again(stage: Stage, node_id: str) -> None:
    """Neither with an empty directory, nor added by hand."""
    process, plan = stage.cluster.nodes[node_id], stage.cluster.plans[node_id]
    stage.cluster.forget(node_id)
    shutil.rmtree(stage.directory(node_id))
    words = arguments_of(process)
    at = words.index("--members")
    words[at : at + 2] = ["--join", ",".join(stage.cluster.endpoints)]
    refusal = await refusal_of(words)
    assert refusal.status == FAILED
    assert "cannot join" in refusal.error
    assert "never used" in refusal.error
    with pytest.raises(NodeIdUsed):
        await stage.client.cluster.add_member(
            node_id, peer_address=f"{HOST}:{plan.peer_port}", http_address=f"{HOST}:{plan.http_port}"
        )
    members = await stage.client.cluster.remove_member(node_id)
    assert node_id not in [member.node_id for member in members], "already gone is as good"


async def remove_once_the_rest_answers(stage: Stage, node_id: str) -> list[Member]:
    """A leader that has just begun does not know yet who of the others would do."""

    async def remove() -> list[Member] | None:
        try:
            return await stage.client.cluster.remove_member(node_id)
        except QuorumAtRisk:
            return None

    return await until(remove)


@async_test(limit_s=120)
async def test_a_node_is_replaced_and_a_joined_one_starts_again(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SOON) as stage:
        await stage.client.sessions.create(session_id=TARGET)
        lost = (await stage.follower_ids())[0]
        await stage.kill(lost)
        assert len(await remove_once_the_rest_answers(stage, lost)) == 2
        stage.cluster.forget(lost)
        await stage.join("n4")
        await stage.client.sessions.append(TARGET, type="custom.one")
        await stage.converged()
        # Its command line still says --join, and nobody whom it names is asked.
        await stage.kill(*stage.node_ids)
        await stage.start(*stage.node_ids)
        await stage.client.sessions.append(TARGET, type="custom.two")
        assert "n4" in {status.node_id for status in await stage.converged()}


@async_test(limit_s=120)
async def test_a_first_start_that_died_half_way_is_begun_again(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SOON) as stage:
        await stage.client.sessions.create(session_id=TARGET)
        await stage.join("n4", wait=False)

        async def has_begun() -> bool | None:
            return True if (stage.directory("n4") / "node.json").exists() else None

        await until(has_begun)
        await stage.kill("n4")
        await stage.start("n4")
        assert (await stage.client.cluster.wait_voter("n4", timeout_s=60)).voter
        await stage.converged()


@async_test(limit_s=120)
async def test_what_would_lose_quorum_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SOON) as stage:
        one, other = await stage.follower_ids()
        await stage.kill(one)

        async def is_missed() -> bool | None:
            leader = await stage.status(await stage.leader_id())
            silent_ms = {member.node_id: member.last_contact_ms for member in leader.members}[one]
            return True if silent_ms is not None and silent_ms > MISSED_AFTER_MS else None

        await until(is_missed)
        # Two voters would be left, and one of them is dead.
        with pytest.raises(QuorumAtRisk) as caught:
            await stage.client.cluster.remove_member(other)
        error = caught.value
        assert (error.current["voters"], error.current["quorum"], error.current["live"]) == (2, 2, 1)
        assert await voters(stage) == {"n1", "n2", "n3"}
        await stage.start(one)


async def move(stage: Stage, node_id: str) -> None:
    """Stop a node, tell the cluster where it will be, and start it there with its data."""
    http_port, peer_port = node_ports(2)
    assert await stage.stop(node_id) == 0
    to = NodePlan(node_id, http_port, peer_port)
    moved = await stage.client.cluster.update_member(
        node_id, peer_address=f"{HOST}:{peer_port}", http_address=f"{HOST}:{http_port}"
    )
    assert (moved.peer_address, moved.http_address) == (f"{HOST}:{peer_port}", f"{HOST}:{http_port}")
    stage.cluster.plans[node_id] = to
    command = stage.cluster.nodes[node_id].command
    command[command.index("--peer") + 1] = f"{HOST}:{peer_port}"
    command[command.index("--http") + 1] = f"{HOST}:{http_port}"
    await stage.start(node_id)


@async_test(limit_s=120)
async def test_all_members_move_to_other_addresses_one_by_one(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SOON) as stage:
        await stage.client.sessions.create(session_id=TARGET)
        for node_id in stage.node_ids:
            await move(stage, node_id)
            # What this client was started with is not there any more at the end.
            await stage.client.cluster.discover()
            await stage.client.sessions.append(TARGET, type="custom.moved")
        where = {plan.endpoint.removeprefix("http://") for plan in stage.cluster.plans.values()}
        for status in await stage.converged():
            assert {member.http_address for member in status.members} == where
            assert all(member.connected for member in status.members if member.node_id != status.node_id)


@async_test(limit_s=60)
async def test_joining_with_another_secret_leaves_no_member_behind(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data", SOON) as stage:
        secret_file = tmp_path / "other.secret"
        secret_file.write_text("quite another secret, long enough\n")
        http_port, peer_port = node_ports(2)
        words = ["--node-id", "n4", "--data-dir", str(tmp_path / "n4"), "--http", f"{HOST}:{http_port}"]
        words += ["--peer", f"{HOST}:{peer_port}", "--join", stage.endpoint("n1")]
        refusal = await refusal_of([*words, "--cluster-secret-file", str(secret_file)])
        assert refusal.status == FAILED
        assert "the cluster secret differs" in refusal.error
        assert await voters(stage) == {"n1", "n2", "n3"}
        assert len(await stage.client.cluster.members()) == 3
        assert not (tmp_path / "n4").exists()


@async_test(limit_s=60)
async def test_a_node_that_waits_for_its_cluster_can_be_stopped(tmp_path: Path) -> None:
    http_port, peer_port, dead_port = node_ports(3)
    (tmp_path / "secret").write_text("a secret of these tests, long enough\n")
    words = ["--node-id", "n4", "--data-dir", str(tmp_path / "n4"), "--http", f"{HOST}:{http_port}"]
    words += ["--peer", f"{HOST}:{peer_port}", "--join", f"{HOST}:{dead_port}"]
    words += ["--cluster-secret-file", str(tmp_path / "secret")]
    process = ChildProcess("n4", node_command(words), tmp_path / "log")
    await process.start()

    async def is_joining() -> bool | None:
        return True if "cannot join yet" in (tmp_path / "log").read_text() else None

    await until(is_joining)
    await process.stop(STOP_GRACE_S)
    assert process.status == 0
    assert not (tmp_path / "n4").exists()
