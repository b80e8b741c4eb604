from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from hive_client import Client

from ops.addresses import free_ports
from ops.process import ChildProcess
from tests.ops.command_line import hive
from tests.ops.local import LIMIT_S

HIVE = [sys.executable, "-P", "-c", "from ops.cli import main; main()"]


def free_base() -> int:
    """A port with room for two nodes ten apart; found by asking for one and trying the others."""
    while True:
        base = free_ports(1)[0]
        if base < 65_000 and all(is_free(base + offset) for offset in (1, 10, 11)):
            return base


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Dev:
    """`hive dev` as a process; its lines can be awaited."""

    def __init__(self, *words: str) -> None:
        self.process = ChildProcess("dev", [*HIVE, "dev", *words], None, subprocess.PIPE)
        self.lines: list[str] = []

    async def line_with(self, *texts: str) -> str:
        while True:
            line = (await self.process.output.readline()).decode()
            assert line, f"ended without {texts}: {self.lines}"
            self.lines.append(line)
            if all(text in line for text in texts):
                return line

    def node_processes(self) -> list[psutil.Process]:
        return [p for p in psutil.Process(self.process.pid).children() if "--node-id" in p.cmdline()]


def with_dev(words: list[str], scenario: Callable[[Dev], Awaitable[None]]) -> None:
    async def run() -> None:
        dev = Dev(*words)
        async with asyncio.timeout(LIMIT_S):
            await dev.process.start()
            try:
                await scenario(dev)
            finally:
                await dev.process.kill()

    asyncio.run(run())


@pytest.mark.process
def test_a_cluster_in_one_terminal(tmp_path: Path) -> None:
    base = free_base()
    words = ["--nodes", "2", "--data-dir", str(tmp_path / "d"), "--http-port", str(base)]
    endpoints = [f"http://127.0.0.1:{base}", f"http://127.0.0.1:{base + 10}"]

    async def first(dev: Dev) -> None:
        ready = await dev.line_with("ready  http")
        assert ",".join(endpoints) in ready
        async with Client(endpoints) as client:
            await client.tasks.create(task_id="kept")
            assert [m.http_address for m in await client.cluster.members()] == [e[7:] for e in endpoints]
        secret = tmp_path / "d" / "cluster.secret"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        nodes = dev.node_processes()
        assert len(nodes) == 2
        os.kill(dev.process.pid, signal.SIGTERM)
        await dev.line_with("hive | stopped")
        assert await dev.process.wait() == 0
        assert not any(node.is_running() for node in nodes)

    async def second(dev: Dev) -> None:
        await dev.line_with("ready  http")
        async with Client(endpoints) as client:
            assert (await client.tasks.get("kept", consistency="linearizable")).task_id == "kept"
        victim = dev.node_processes()[0]
        victim.kill()
        gone = await dev.line_with("is gone")
        assert "SIGKILL" in gone
        assert "hive node --node-id" in gone
        os.kill(dev.process.pid, signal.SIGINT)
        await dev.line_with("hive | stopped")
        assert await dev.process.wait() == 0

    with_dev(words, first)
    with_dev(words, second)


@pytest.mark.process
def test_nodes_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the kernel's help is Linux's")
    base = free_base()

    async def scenario(dev: Dev) -> None:
        await dev.line_with("serving")
        node = dev.node_processes()[0]
        await dev.process.kill()
        await asyncio.to_thread(node.wait, LIMIT_S)

    with_dev(["--nodes", "1", "--data-dir", str(tmp_path / "d"), "--http-port", str(base)], scenario)


@pytest.mark.process
def test_when_every_node_is_gone_it_ends_with_a_failure(tmp_path: Path) -> None:
    base = free_base()

    async def scenario(dev: Dev) -> None:
        await dev.line_with("ready  http")
        dev.node_processes()[0].kill()
        await dev.line_with("every node is gone")
        assert await dev.process.wait() == 1

    with_dev(["--nodes", "1", "--data-dir", str(tmp_path / "d"), "--http-port", str(base)], scenario)


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        printed = hive("dev", "--nodes", "1", "--data-dir", str(tmp_path), "--http-port", str(port))
    assert printed.status == 1
    assert f"port {port}" in printed.stderr
    assert "--http-port" in printed.stderr
    assert printed.stderr.count("\n") == 1


def test_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(json.dumps({"nodes": 3, "http_port": 7400}))
    printed = hive("dev", "--nodes", "1", "--data-dir", str(tmp_path))
    assert printed.status == 1
    assert "--nodes 3 --http-port 7400" in printed.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "dev.json"]


@pytest.mark.parametrize("text", ["{", "[]", '{"nodes": "x"}'])
def test_a_damaged_layout_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dev.json").write_text(text)
    printed = hive("dev", "--nodes", "1", "--data-dir", str(tmp_path))
    assert printed.status == 1
    assert "damaged" in printed.stderr


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    printed = hive("dev", "--nodes", "1", "--data-dir", str(tmp_path / "file" / "d"))
    assert printed.status == 1
    assert "another --data-dir" in printed.stderr
