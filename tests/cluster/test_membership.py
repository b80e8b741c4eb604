"""Members that come and go, on real nodes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cluster.identity import StartError
from cluster.node_replica import NodeReplica
from cluster.recover import force_new_cluster, plan_recovery
from cluster.replica import (
    AddMember,
    MembershipRefusedError,
    NotCommittedError,
    PromoteMember,
    RemoveMember,
    UpdateMember,
)
from cluster.settings import Limits, Timings
from statemachine import machine
from statemachine.commands import CreateSession
from statemachine.session_record import find
from tests.cluster.nodes import PATIENCE_S, Nodes
from tests.process.ports import node_ports
from tests.sim.load import frame_of

_TIMINGS = Timings(promote_stable_ms=100)


def _run(play: Coroutine[Any, Any, None]) -> None:
    uvloop.run(play)


class _Fatal(list[BaseException]):
    """What ended nodes, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._heard = asyncio.Event()

    def append(self, error: BaseException) -> None:
        super().append(error)
        self._heard.set()

    async def next(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            await self._heard.wait()
        self._heard.clear()
        return str(self.pop())


class _Growing(Nodes):
    """Nodes that begin as one, and are added one by one."""

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(path, count)
        self.ended = self.fatal = _Fatal()

    def member(self, node_id: str) -> str:
        return self._members[node_id]

    async def found(self) -> NodeReplica:
        first = await self.start("n1", members={"n1": self._members["n1"]}, timings=_TIMINGS)
        await self.until(lambda: first.is_leader and first.membership.current.founded)
        return first

    async def add(self, node_id: str) -> NodeReplica:
        """Ask anybody, start it, and wait until it votes."""
        asked = next(iter(self.up.values()))
        await asked.change_members(AddMember(node_id, self._members[node_id], f"http-{node_id}"), PATIENCE_S)
        return await self.join(node_id, asked)

    async def join(self, node_id: str, asked: NodeReplica) -> NodeReplica:
        known = {member.node_id: member.peer_address for member in asked.status().members}
        replica = await self.start(
            node_id, members=known, join_cluster_id=asked.cluster_id, timings=_TIMINGS
        )
        await self.until(lambda: all(one.membership.current.is_voter(node_id) for one in self.up.values()))
        return replica

    async def again(self, node_id: str, **changes: Any) -> NodeReplica:
        """Start one that knows its members, with a list that says something else."""
        return await self.start(node_id, **{"members": {node_id: "127.0.0.1:1"}, "timings": _TIMINGS, **changes})


@asynccontextmanager
async def _growing(path: Path, count: int = 5) -> AsyncIterator[_Growing]:
    nodes = _Growing(path, count)
    try:
        yield nodes
    finally:
        for node_id in list(nodes.up):
            await nodes.stop(node_id)


async def _write(replica: NodeReplica, name: str) -> None:
    outcomes = await replica.propose([frame_of(name, CreateSession(name.replace(" ", "-")))], PATIENCE_S)
    assert outcomes[0].refusal is None


def _sees(replica: NodeReplica, name: str) -> bool:
    with replica.view() as view:
        return find(view, 1, name.replace(" ", "-")) is not None


def _roles(replica: NodeReplica) -> dict[str, tuple[str, bool]]:
    return {member.node_id: (member.role, member.voter) for member in replica.status().members}


def test_one_becomes_three_and_one_again(tmp_path: Path) -> None:
    async def play() -> None:
        async with _growing(tmp_path) as nodes:
            first = await nodes.found()
            await _write(first, "alone")
            for node_id in ("n2", "n3"):
                replica = await nodes.add(node_id)
                await _write(replica, f"by-{node_id}")
                assert _sees(replica, "alone")
            assert _roles(nodes.up["n3"]) == {
                "n1": ("leader", True),
                "n2": ("follower", True),
                "n3": ("follower", True),
            }
            # Twice, and each time it is the leader who goes.
            for _ in range(2):
                gone = nodes.leader.node_id
                asked = nodes.follower
                members = await asked.change_members(RemoveMember(gone), PATIENCE_S)
                assert gone not in {member.node_id for member in members}
                assert (await nodes.ended.next()).startswith(f"removed: node {gone} was removed from the cluster")
                await nodes.stop(gone)
                with pytest.raises(StartError, match=f"node {gone} was removed from the cluster"):
                    await nodes.again(gone)
                await nodes.until_led()
                await _write(nodes.leader, f"after-{gone}")
                with pytest.raises(MembershipRefusedError) as refused:
                    await nodes.leader.change_members(AddMember(gone, "127.0.0.1:1", ""), PATIENCE_S)
                assert refused.value.code == "id_used"
            assert all(_sees(nodes.leader, name) for name in ("alone", "by-n2", "by-n3"))

    _run(play())


def test_members_know_each_other_again_after_a_restart(tmp_path: Path) -> None:
    """The replicated membership wins over what the nodes are started with."""

    async def play() -> None:
        async with _growing(tmp_path) as nodes:
            await nodes.found()
            for node_id in ("n2", "n3"):
                await nodes.add(node_id)
            await nodes.until_equal()
            for node_id in list(nodes.up):
                await nodes.stop(node_id)
            for node_id in ("n1", "n2", "n3"):
                await nodes.again(node_id, peer_address=nodes.member(node_id))
            await nodes.until_led()
            await _write(nodes.follower, "together again")
            with pytest.raises(StartError, match="cluster-secret-file"):
                await nodes.stop("n3")
                await nodes.again("n3", cluster_secret=b"")

    _run(play())


def test_a_learner_is_shown_and_has_no_say(tmp_path: Path) -> None:
    async def play() -> None:
        async with _growing(tmp_path) as nodes:
            first = await nodes.found()
            added = AddMember("n2", nodes.member("n2"), "http-n2")
            for _ in range(2):
                members = await first.change_members(added, PATIENCE_S)
                assert [(member.node_id, member.role, member.voter) for member in members] == [
                    ("n1", "leader", True),
                    ("n2", "learner", False),
                ]
            with pytest.raises(MembershipRefusedError) as exists:
                await first.change_members(AddMember("n2", "127.0.0.1:1", ""), PATIENCE_S)
            assert exists.value.code == "exists"
            with pytest.raises(MembershipRefusedError) as early:
                await first.change_members(PromoteMember("n2"), PATIENCE_S)
            assert early.value.code == "not_caught_up"
            with pytest.raises(ValueError, match="not a voting member"):
                await first.transfer_leadership("n2", 1.0)
            await _write(first, "without it")
            second = await nodes.join("n2", first)
            await nodes.until(lambda: _sees(second, "without it"))
            assert second.status().role == "follower"

    _run(play())


def test_what_would_leave_no_quorum_is_refused_with_the_numbers(tmp_path: Path) -> None:
    async def play() -> None:
        async with _growing(tmp_path) as nodes:
            await nodes.found()
            for node_id in ("n2", "n3"):
                await nodes.add(node_id)
            down = nodes.follower.node_id
            await nodes.stop(down)
            leader, other = nodes.leader, nodes.follower
            with pytest.raises(MembershipRefusedError) as refused:
                await other.change_members(RemoveMember(other.node_id), PATIENCE_S)
            assert refused.value.code == "quorum_at_risk"
            assert refused.value.data == {"voters": 2, "quorum": 2, "live": 1, "live_ids": [leader.node_id]}
            with pytest.raises(MembershipRefusedError) as unknown:
                await other.change_members(PromoteMember("n9"), PATIENCE_S)
            assert unknown.value.code == "not_found"
            members = await other.change_members(RemoveMember(down), PATIENCE_S)
            assert {member.node_id for member in members} == {leader.node_id, other.node_id}
            await other.change_members(RemoveMember(down), PATIENCE_S)
            await _write(other, "two of two")

    _run(play())


def test_without_a_leader_nothing_changes(tmp_path: Path) -> None:
    async def play() -> None:
        async with _growing(tmp_path) as nodes:
            await nodes.found()
            await nodes.add("n2")
            await nodes.stop(nodes.leader.node_id)
            left = next(iter(nodes.up.values()))
            await nodes.until(lambda: left.leader_id is None)
            with pytest.raises(NotCommittedError) as failed:
                await left.change_members(RemoveMember("n2"), 0.3)
            assert failed.value.code == "no_leader"

    _run(play())


def test_a_member_moves_to_another_address(tmp_path: Path) -> None:
    async def play() -> None:
        async with _growing(tmp_path) as nodes:
            await nodes.found()
            for node_id in ("n2", "n3"):
                await nodes.add(node_id)
            moved = nodes.follower.node_id
            await nodes.stop(moved)
            [port] = node_ports(1)
            there = f"127.0.0.1:{port}"
            members = await nodes.leader.change_members(UpdateMember(moved, there, "http-there"), PATIENCE_S)
            assert {member.peer_address for member in members if member.node_id == moved} == {there}
            replica = await nodes.again(moved, peer_address=there, http_address="http-there")
            await nodes.until_led()
            await nodes.until_equal()
            await _write(replica, "from there")

    _run(play())


def test_a_cluster_of_one_without_a_secret_stays_alone(tmp_path: Path) -> None:
    async def play() -> None:
        async with _growing(tmp_path) as nodes:
            first = await nodes.start("n1", members={"n1": ""}, cluster_secret=b"", timings=_TIMINGS)
            await nodes.until(lambda: first.is_leader)
            with pytest.raises(MembershipRefusedError) as refused:
                await first.change_members(AddMember("n2", nodes.member("n2"), ""), PATIENCE_S)
            assert refused.value.code == "conflict"
            with pytest.raises(MembershipRefusedError) as last:
                await first.change_members(RemoveMember("n1"), PATIENCE_S)
            assert last.value.code == "quorum_at_risk"

    _run(play())


def test_an_emptied_node_is_refused_by_members_that_never_met_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with _growing(tmp_path) as nodes:
            await nodes.found()
            for node_id in ("n2", "n3"):
                await nodes.add(node_id)
            emptied = "n3"
            await nodes.stop(emptied)
            shutil.rmtree(tmp_path / emptied)
            await nodes.until_led()
            known = {member.node_id: member.peer_address for member in nodes.leader.status().members}
            cluster_id = nodes.leader.cluster_id
            await nodes.add("n4")
            for node_id in ("n1", "n2"):
                await nodes.stop(node_id)
            # n4 was never connected with n3: it knows its journal from the log alone.
            await nodes.start(emptied, members=known, join_cluster_id=cluster_id, timings=_TIMINGS)
            assert (await nodes.ended.next()).startswith("journal_unknown: node n3 ")

    _run(play())


def test_one_survivor_becomes_a_new_cluster(tmp_path: Path) -> None:
    limits = Limits(segment_bytes=1 << 20, log_keep_bytes=0, state_map_bytes=64 << 20)

    async def before() -> tuple[str, int]:
        async with _growing(tmp_path) as nodes:
            await nodes.found()
            for node_id in ("n2", "n3"):
                await nodes.add(node_id)
            await _write(nodes.leader, "kept")
            await nodes.until_equal()
            with pytest.raises(StartError, match="in use"):
                plan_recovery(tmp_path / "n2", machine.apply, limits)
            return nodes.leader.cluster_id, nodes.leader.status().applied_index

    async def after() -> None:
        async with _growing(tmp_path) as nodes:
            survivor = await nodes.again("n2", peer_address=nodes.member("n2"))
            await nodes.until(lambda: survivor.is_leader)
            assert _sees(survivor, "kept")
            assert survivor.cluster_id != cluster_id
            assert _roles(survivor) == {"n2": ("leader", True)}
            assert survivor.status().log_first_index > plan.last_index
            await _write(survivor, "new")
            for used in ("n1", "n3"):
                with pytest.raises(MembershipRefusedError) as refused:
                    await survivor.change_members(AddMember(used, "127.0.0.1:1", ""), PATIENCE_S)
                assert refused.value.code == "id_used"
            fourth = await nodes.add("n4")
            await nodes.until(lambda: _sees(fourth, "kept") and _sees(fourth, "new"))
            # Of the old cluster nobody is let in, and nobody is told to go.
            await nodes.again("n1", peer_address=nodes.member("n1"))
            await _write(fourth, "undisturbed")
            assert nodes.fatal == []

    cluster_id, applied_index = uvloop.run(before())
    plan = plan_recovery(tmp_path / "n2", machine.apply, limits)
    assert (plan.cluster_id, plan.node_id, plan.lost_members) == (cluster_id, "n2", ("n1", "n3"))
    assert plan.applied_index >= applied_index
    assert plan.new_cluster_id is None
    assert plan_recovery(tmp_path / "n2", machine.apply, limits) == plan
    done = force_new_cluster(tmp_path / "n2", machine.apply, limits)
    assert done.new_cluster_id is not None
    _run(after())


def test_there_must_be_something_to_recover(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no node"):
        plan_recovery(tmp_path / "nothing", machine.apply)
    assert not (tmp_path / "nothing").exists()
