"""Real replicas whose neighbours are killed, and ends that come at the wrong moment: every call is answered."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from cluster.node_replica import NodeReplica
from cluster.real.kernel_sync import KernelSync
from cluster.replica import CallFailedError, NotCommittedError, OutcomeUnknownError, TooStaleError
from cluster.snapshots import Snapshots
from cluster.start import StartError
from statemachine import session_record
from statemachine.commands import CreateSession
from tests.cluster.abandoning import abandon
from tests.cluster.nodes import PATIENCE_S, Nodes, nodes_up
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


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _kill(nodes: Nodes, node_id: str) -> None:
    await abandon(nodes.up.pop(node_id))


def test_the_leader_is_killed_and_comes_back(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            await _write(nodes.leader, "before")
            killed, term = nodes.leader.node_id, nodes.leader.term
            await _kill(nodes, killed)
            survivor = nodes.follower
            await _write(survivor, "without-it")
            await nodes.until_led()
            assert nodes.leader.term > term
            back = await nodes.start(killed)
            await nodes.until_equal()
            assert _sees(back, "before")
            assert _sees(back, "without-it")
            await _write(back, "after")

    _run(play())


def test_all_are_killed_at_once(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            for replica in list(nodes.up.values()):
                await _write(replica, replica.node_id)
            for node_id in list(nodes.up):
                await _kill(nodes, node_id)
            for number in range(1, 4):
                await nodes.start(f"n{number}")
            await nodes.until_led()
            for replica in nodes.up.values():
                await replica.read_barrier(PATIENCE_S)
                assert all(_sees(replica, f"n{number}") for number in range(1, 4))
            await nodes.until_equal()
            assert len({replica.status().digest for replica in nodes.up.values()}) == 1

    _run(play())


def test_a_follower_killed_while_it_installs_an_image_comes_back(tmp_path: Path) -> None:
    """The image is on disk, its generation is in use, node.json may still name the one before."""

    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            away = nodes.follower.node_id
            await _kill(nodes, away)
            for number in range(5):
                await _write(nodes.leader, f"meanwhile-{number}")
            index = await nodes.leader.snapshot()
            await nodes.until(lambda: nodes.leader.status().log_first_index >= index - 1)
            back = await nodes.start(away)
            installed = asyncio.Event()
            back.subscribe(lambda notice: installed.set() if notice.gap else None)
            async with asyncio.timeout(PATIENCE_S):
                await installed.wait()
            await _kill(nodes, away)
            again = await nodes.start(away)
            await nodes.until_equal()
            assert _sees(again, "meanwhile-4")
            await _write(again, "after")

    _run(play())


def test_calls_end_when_the_leader_is_killed(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            asked, never = asyncio.Event(), asyncio.Event()

            async def wait(_caller: str, _request: bytes) -> bytes:
                asked.set()
                await never.wait()
                return b""

            nodes.leader.serve("wait", wait)
            call = asyncio.ensure_future(nodes.follower.call_leader("wait", b"", PATIENCE_S))
            async with asyncio.timeout(PATIENCE_S):
                await asked.wait()
            dead = nodes.leader
            await _kill(nodes, dead.node_id)
            with pytest.raises(CallFailedError, match="leader changed"):
                await call
            for task in dead._calls._serving:
                task.cancel()

    _run(play())


def test_whatever_waits_is_answered_by_the_end(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            await _write(nodes.leader, "one")
            await nodes.until_equal()
            for node_id in ("n1", "n2"):
                await nodes.stop(node_id)
            alone = nodes.up["n3"]
            await nodes.until(lambda: not alone.is_leader and alone.leader_id is None)
            waiting = [
                asyncio.ensure_future(action)
                for action in (
                    alone.propose([frame_of("two", CreateSession("two"))], 600),
                    alone.read_barrier(600),
                    alone.wait_revision(alone.revision + 1, 600),
                )
            ]
            await asyncio.sleep(0)
            await nodes.stop("n3")
            async with asyncio.timeout(PATIENCE_S):
                results = await asyncio.gather(*waiting, return_exceptions=True)
            kinds = (NotCommittedError, OutcomeUnknownError, TooStaleError)
            assert all(isinstance(result, kinds) for result in results), results
            with pytest.raises(NotCommittedError):
                await alone.propose([frame_of("three", CreateSession("three"))], 600)

    _run(play())


def test_a_snapshot_that_cannot_be_finished_is_answered_by_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 1) as nodes:
            await _write(nodes.leader, "one")
            asked = asyncio.Event()
            # As when a newer one is being fetched.
            monkeypatch.setattr(Snapshots, "serialize", lambda *_: asked.set())
            taking = asyncio.ensure_future(nodes.leader.snapshot())
            async with asyncio.timeout(PATIENCE_S):
                await asked.wait()
                await nodes.stop("n1")
                with pytest.raises(NotCommittedError) as refused:
                    await taking
            assert refused.value.code == "shutting_down"

    _run(play())


def test_a_snapshot_holds_what_was_there_when_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when one is being taken already, which began before."""

    async def play() -> None:
        async with nodes_up(tmp_path, 1) as nodes:
            replica = nodes.leader
            await _write(replica, "one")
            begun = asyncio.Event()
            serialize = Snapshots.serialize

            def told(snapshots: Snapshots, data: tuple[Any, ...], index: int) -> None:
                serialize(snapshots, data, index)
                begun.set()

            monkeypatch.setattr(Snapshots, "serialize", told)
            first = asyncio.ensure_future(replica.snapshot())
            async with asyncio.timeout(PATIENCE_S):
                await begun.wait()
                await _write(replica, "two")
                applied = replica.core.engine.applied_index
                assert await replica.snapshot() >= applied
                await first

    _run(play())


def test_waiters_that_gave_up_are_forgotten(tmp_path: Path) -> None:
    """Nothing may be written for days."""

    async def play() -> None:
        async with nodes_up(tmp_path, 1) as nodes:
            replica = nodes.leader
            for _ in range(3):
                with pytest.raises(TooStaleError):
                    await replica.wait_revision(replica.revision + 1, 0.001)
            assert not replica._revision_waiters
            waiting = asyncio.ensure_future(replica.wait_revision(replica.revision + 1, PATIENCE_S))
            await asyncio.sleep(0)
            await _write(replica, "one")
            await waiting

    _run(play())


def test_two_may_close_at_once(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            leader = nodes.up.pop(nodes.leader.node_id)
            await asyncio.gather(leader.close(), leader.close())
            await leader.close()
            await nodes.until_led()
            assert nodes.leader is not leader

    _run(play())


def test_one_that_gives_up_closing_does_not_leave_it_half_done(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 1) as nodes:
            replica = nodes.up.pop("n1")
            impatient = asyncio.ensure_future(replica.close())
            await asyncio.sleep(0)
            impatient.cancel()
            with pytest.raises(asyncio.CancelledError):
                await impatient
            await replica.close()
            await nodes.start("n1")
            await nodes.until_led()

    _run(play())


def test_no_descriptors_are_left_behind(tmp_path: Path) -> None:
    async def play() -> None:
        async with nodes_up(tmp_path, 1) as nodes:
            for _ in range(2):
                await nodes.stop("n1")
                await nodes.start("n1")
                await nodes.until_led()
            before = _descriptors()
            for _ in range(3):
                await nodes.stop("n1")
                await nodes.start("n1")
                await nodes.until_led()
            assert _descriptors() <= before

    _run(play())


def test_a_fault_in_what_a_thread_has_finished_ends_the_node(tmp_path: Path) -> None:
    """The loop would log it, and the node go on with half of its work done."""

    async def play() -> None:
        nodes = Nodes(tmp_path, 1)
        replica = await nodes.start("n1")
        await nodes.until_led()
        ended = asyncio.Event()
        replica.on_role_change(ended.set)
        fault = AssertionError("a defect")

        def fail(_: float) -> None:
            ended.set()
            raise fault

        replica.metrics.on_fsync = fail
        write = asyncio.ensure_future(_write(replica, "one"))
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        assert replica.core.stopped
        assert nodes.fatal == [fault]
        await replica.close()
        with pytest.raises((NotCommittedError, OutcomeUnknownError)):
            await write

    _run(play())


def test_a_stop_whose_end_cannot_be_written_says_so_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        nodes = Nodes(tmp_path, 1)
        replica = await nodes.start("n1")
        await nodes.until_led()
        await _write(replica, "one")

        def fail(*_: Any) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(StartError, match="nothing acknowledged is lost"):
            await replica.close()
        monkeypatch.undo()
        again = await nodes.start("n1")
        await nodes.until_led()
        assert _sees(again, "one")
        await nodes.stop("n1")

    _run(play())


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_log_that_cannot_be_written_ends_the_node_and_the_write_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async def play() -> None:
        nodes = Nodes(tmp_path, 1)
        replica = await nodes.start("n1")
        await nodes.until_led()
        await _write(replica, "one")
        ended = asyncio.Event()

        def on_fatal(error: BaseException) -> None:
            nodes.fatal.append(error)
            ended.set()

        replica.on_fatal = on_fatal

        def fail(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fdatasync", fail)
        monkeypatch.setattr(KernelSync, "fdatasync", fail)
        write = asyncio.ensure_future(replica.propose([frame_of("two", CreateSession("two"))], PATIENCE_S))
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        monkeypatch.undo()
        assert isinstance(nodes.fatal[0], OSError)
        await replica.close()
        with pytest.raises(OutcomeUnknownError):
            await write
        nodes.fatal.clear()
        again = await nodes.start("n1")
        await nodes.until_led()
        assert _sees(again, "one")
        await nodes.stop("n1")

    _run(play())
