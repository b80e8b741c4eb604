"""What a node may ask of its replica, on real replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from cluster.node_replica import NodeReplica
from cluster.replica import CallFailedError, NotCommittedError, Notice, TooStaleError
from cluster.start import StartError, open_replica
from statemachine import machine, session_record
from statemachine.commands import CreateSession
from tests.cluster.nodes import PATIENCE_S, Nodes, nodes_up
from tests.process.ports import node_ports
from tests.sim.load import frame_of


def _run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def _write(replica: NodeReplica, name: str) -> int:
    (outcome,) = await replica.propose([frame_of(name, CreateSession(name))], PATIENCE_S)
    assert outcome.refusal is None
    return outcome.revision


def _sees(replica: NodeReplica, name: str) -> bool:
    with replica.view() as view:
        return session_record.find(view, 1, name) is not None


def test_writes_and_reads_through_every_node(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            for node_id, replica in nodes.up.items():
                await _write(replica, f"by-{node_id}")
                assert _sees(replica, f"by-{node_id}")
                for other in nodes.up.values():
                    await other.read_barrier(PATIENCE_S)
                    assert _sees(other, f"by-{node_id}")
            await nodes.until_equal()
            assert len({replica.status().digest for replica in nodes.up.values()}) == 1

    _run(play())


def test_status_tells_what_everybody_needs(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            revision = await _write(nodes.leader, "one")
            await nodes.until_equal()
            status = nodes.leader.status()
            assert (status.role, status.leader_id, status.has_quorum) == ("leader", nodes.leader.node_id, True)
            assert status.applied_index == status.commit_index <= status.durable_index == status.last_index
            assert [(member.node_id, member.connected) for member in status.members] == [
                ("n1", True),
                ("n2", True),
                ("n3", True),
            ]
            assert {member.http_address for member in status.members} == {"http-n1", "http-n2", "http-n3"}
            assert nodes.follower.revision == revision
            assert nodes.follower.status().role == "follower"

    _run(play())


def test_leadership_is_transferred(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            heir = nodes.follower
            assert await nodes.leader.transfer_leadership(heir.node_id, PATIENCE_S) == heir.node_id
            await nodes.until_led()
            assert nodes.leader is heir
            await _write(nodes.follower, "after")
            with pytest.raises(NotCommittedError):
                await nodes.follower.transfer_leadership(None, 1.0)
            with pytest.raises(ValueError, match="not a voting member"):
                await nodes.leader.transfer_leadership("n9", 1.0)

    _run(play())


def test_handing_over_ends_when_nobody_is_there_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            leader = nodes.leader
            monkeypatch.setattr(leader.core, "hand_over", lambda to: None)
            handing_over = asyncio.create_task(leader.transfer_leadership(None, 10 * PATIENCE_S))
            for node_id in [node_id for node_id in nodes.up if node_id != leader.node_id]:
                await nodes.stop(node_id)
            with pytest.raises(NotCommittedError, match="take over"):
                async with asyncio.timeout(PATIENCE_S):
                    await handing_over

    _run(play())


def test_a_node_that_was_away_gets_a_snapshot_and_a_gap(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            away = nodes.follower.node_id
            await _write(nodes.leader, "before")
            await nodes.until_equal()
            await nodes.stop(away)
            for number in range(20):
                await _write(nodes.leader, f"meanwhile-{number}")
            index = await nodes.leader.snapshot()
            assert index > 20
            await nodes.until(lambda: nodes.leader.status().log_first_index >= index - 1)
            back = await nodes.start(away)
            notices: list[Notice] = []
            back.subscribe(notices.append)
            await nodes.until_equal()
            assert any(notice.gap for notice in notices)
            assert _sees(back, "meanwhile-19")
            await _write(back, "after")
            await nodes.stop(away)
            again = await nodes.start(away)
            assert _sees(again, "after"), "the installed generation was found again"

    _run(play())


def test_a_snapshot_of_what_is_in_one_already_is_that_one(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 1) as nodes:
            await _write(nodes.leader, "one")
            index = await nodes.leader.snapshot()
            assert await nodes.leader.snapshot() == index

    _run(play())


def test_all_nodes_stopped_and_started_know_everything(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            revision = await _write(nodes.leader, "one")
            await nodes.until_equal()
            terms = nodes.leader.term
            for node_id in list(nodes.up):
                await nodes.stop(node_id)
            for number in range(1, 4):
                replica = await nodes.start(f"n{number}")
                assert replica.revision == revision
            await nodes.until_led()
            assert nodes.leader.term > terms
            await nodes.leader.read_barrier(PATIENCE_S)
            assert _sees(nodes.leader, "one")

    _run(play())


def test_without_a_quorum_writes_say_no_and_local_reads_go_on(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            await _write(nodes.leader, "one")
            await nodes.until_equal()
            for node_id in ("n1", "n2"):
                await nodes.stop(node_id)
            alone = nodes.up["n3"]
            await nodes.until(lambda: not alone.is_leader and alone.leader_id is None)
            with pytest.raises(NotCommittedError) as refused:
                await alone.propose([frame_of("two", CreateSession("two"))], 0.2)
            assert refused.value.code == "no_leader"
            with pytest.raises(NotCommittedError):
                await alone.read_barrier(0.2)
            with pytest.raises(TooStaleError):
                await alone.wait_revision(alone.revision + 1, 0.1)
            assert _sees(alone, "one")

    _run(play())


def test_calls_reach_the_leaders_memory(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            for node_id, replica in nodes.up.items():

                async def answer(caller: str, request: bytes, node_id: str = node_id) -> bytes:
                    if request == b"refuse":
                        raise CallFailedError("not now")
                    return f"{node_id} to {caller}: ".encode() + request

                replica.serve("echo", answer)
            for replica in nodes.up.values():
                reply = await replica.call_leader("echo", b"hello", PATIENCE_S)
                assert reply == f"{nodes.leader.node_id} to {replica.node_id}: hello".encode()
            with pytest.raises(CallFailedError, match="not now"):
                await nodes.follower.call_leader("echo", b"refuse", PATIENCE_S)

    _run(play())


def test_an_emptied_data_directory_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        nodes = Nodes(tmp_path, 3)
        for number in range(1, 4):
            await nodes.start(f"n{number}")
        await nodes.until_led()
        await _write(nodes.leader, "one")
        await nodes.until_equal()
        victim = nodes.follower.node_id
        await nodes.stop(victim)
        ended = asyncio.Event()

        def on_fatal(error: BaseException) -> None:
            nodes.fatal.append(error)
            ended.set()

        options = nodes.options(victim, data_dir=tmp_path / "empty")
        impostor = await open_replica(options, machine.apply, on_fatal)
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        assert "another journal" in str(nodes.fatal[0])
        assert impostor.revision == 0
        for replica in [impostor, *nodes.up.values()]:
            await replica.close()

    _run(play())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data_dir": Path("n2")}, "belongs to node n2"),
        ({"members": {"n1": "127.0.0.1:1", "n2": "127.0.0.1:2"}}, "belongs to cluster"),
        ({}, "in use by another process"),
    ],
)
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    async def play() -> None:
        nodes = Nodes(tmp_path, 3)
        first = await open_replica(nodes.options("n1"), machine.apply, nodes.fatal.append)
        if changes:
            await first.close()
        if "data_dir" in changes:
            await (await open_replica(nodes.options("n2"), machine.apply, nodes.fatal.append)).close()
            changes["data_dir"] = tmp_path / "n2"
        options = nodes.options("n1", peer_address=f"127.0.0.1:{node_ports(1)[0]}", **changes)
        with pytest.raises(StartError, match=why):
            await open_replica(options, machine.apply, nodes.fatal.append)
        if not changes:
            await first.close()

    _run(play())


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async def play() -> None:
        nodes = Nodes(tmp_path, 3)
        first = await open_replica(nodes.options("n1"), machine.apply, nodes.fatal.append)
        address = first.status().members[0].peer_address
        options = nodes.options("n2", peer_address=address)
        with pytest.raises(StartError, match=address):
            await open_replica(options, machine.apply, nodes.fatal.append)
        await first.close()

    _run(play())
