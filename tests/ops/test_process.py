from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hive_client import Client

from ops.edge import CommandError
from ops.local_cluster import LocalCluster, make_secret, plan_free_nodes, plan_nodes
from ops.process import ChildProcess, describe_exit

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


def test_stop_is_polite_first_and_firm_then() -> None:
    async def scenario() -> None:
        process = ChildProcess("p", [sys.executable, "-c", STUBBORN], None, subprocess.PIPE)
        await process.start()
        assert await process.output.readline() == b"up\n"
        await process.stop(0.01)
        assert process.status == -signal.SIGKILL
        await process.stop(0.01)  # harmless again
        await process.start()
        assert await process.output.readline() == b"up\n"
        assert process.running
        await process.kill()

    asyncio.run(scenario())


def test_a_paused_process_does_nothing_until_it_is_resumed() -> None:
    async def scenario() -> None:
        process = ChildProcess("p", [sys.executable, "-c", STUBBORN], None, subprocess.PIPE)
        process.pause()  # not started: harmless
        await process.start()
        assert await process.output.readline() == b"up\n"
        process.pause()
        _, status = await asyncio.to_thread(os.waitpid, process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.resume()
        _, status = await asyncio.to_thread(os.waitpid, process.pid, os.WCONTINUED)
        assert os.WIFCONTINUED(status)
        process.pause()
        await process.stop(0.01)  # also one that is paused
        assert process.status == -signal.SIGKILL
        process.resume()  # gone: harmless

    asyncio.run(scenario())


def test_the_last_line_of_the_log_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        process = ChildProcess("p", [sys.executable, "-c", "print('one\\ntwo'); raise SystemExit(3)"], tmp_path / "log")
        assert process.last_line() == ""
        await process.start()
        assert await process.wait() == 3
        assert process.last_line() == "two"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "said"), [(0, "exit status 0"), (3, "exit status 3"), (-9, "killed by SIGKILL"), (-99, "signal 99")]
)
def test_ends_are_described(status: int, said: str) -> None:
    assert said in describe_exit(status)


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = make_secret(tmp_path)
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first) > 32
    assert make_secret(tmp_path).read_text() == first


def test_ports_of_a_plan() -> None:
    assert [(p.node_id, p.http_port, p.peer_port) for p in plan_nodes(3, 7400)] == [
        ("n1", 7400, 7401),
        ("n2", 7410, 7411),
        ("n3", 7420, 7421),
    ]


@pytest.mark.process
def test_a_node_that_gives_up_is_said_with_its_own_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = LocalCluster(plan_free_nodes([1, 2]), tmp_path, options=["--nonsense", "1"])
        async with Client(cluster.endpoints) as client:
            await cluster.start()
            with pytest.raises(CommandError, match=r"n1 did not start \(exit status 2\).*nonsense"):
                await cluster.wait_ready(client)

    asyncio.run(scenario())
