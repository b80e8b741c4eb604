"""A node as a process: start, serve, stop; and what stands in the way of a start."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
START_S = 30


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HIVE_")}


class Process:
    """A running node."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.http = free_address()
        command = [sys.executable, "-m", "node", "--data-dir", str(data_dir), "--http", self.http, *options]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []

    def wait_for(self, words: str) -> str:
        """Read its log up to a line with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"ended without {words!r}: {''.join(self.lines)}")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.http}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=START_S) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.lines += self.process.stderr.readlines()
        return self.process.wait(START_S)


@contextlib.contextmanager
def node(data_dir: Path, *options: str) -> Iterator[Process]:
    running = Process(data_dir, *options)
    try:
        running.wait_for("hive.node ready")
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait(START_S)
        if running.process.stderr is not None:
            running.process.stderr.close()


def fails(*options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "node", *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=START_S, check=False
    )
    return done.returncode, done.stderr


def test_a_node_serves_stops_and_comes_back_with_its_data(tmp_path: Path) -> None:
    with node(tmp_path / "data") as first:
        assert first.ask("GET", "/readyz")[0] == 200
        assert first.ask("POST", "/api/sessions", {"session_id": "s1"})[0] == 201
        status = first.ask("GET", "/api/status/cluster")[1]
        assert (status["role"], status["has_quorum"], len(status["members"])) == ("leader", True, 1)
        assert status["members"][0]["http_address"] == first.http
        assert first.stop() == 0
        assert "stopped" in first.lines[-1]
    with node(tmp_path / "data") as second:
        assert second.ask("GET", "/api/sessions/s1?consistency=linearizable")[0] == 200
        assert second.ask("GET", "/api/status/cluster")[1]["cluster_id"] == status["cluster_id"]
        assert second.ask("POST", "/api/sessions", {"session_id": "s2"})[0] == 201
        second.stop(signal.SIGKILL)
    with node(tmp_path / "data") as third:
        listed = third.ask("GET", "/api/sessions?consistency=linearizable")[1]["items"]
        assert [session["session_id"] for session in listed] == ["s2", "s1"]
        assert third.stop(signal.SIGINT) == 0


def test_a_second_node_is_kept_from_port_and_data(tmp_path: Path) -> None:
    with node(tmp_path / "data") as first:
        status, text = fails("--data-dir", str(tmp_path / "other"), "--http", first.http)
        assert (status, text.count("\n")) == (1, 1)
        assert first.http in text
        assert "--http" in text
        assert not (tmp_path / "other").exists()
        status, text = fails("--data-dir", str(tmp_path / "data"), "--http", free_address())
        assert (status, text.count("\n")) == (1, 1)
        assert str(tmp_path / "data") in text
        assert first.ask("GET", "/livez")[0] == 200


def test_bad_options_end_with_status_2(tmp_path: Path) -> None:
    status, text = fails("--data-dir", str(tmp_path / "data"), "--http", "nowhere")
    assert (status, text) == (2, "hive node: --http must be host:port, such as 127.0.0.1:7400, not 'nowhere'\n")
    assert not (tmp_path / "data").exists()
    help_status = subprocess.run(
        [sys.executable, "-m", "node", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert help_status.returncode == 0
    assert help_status.stdout.startswith("Usage: hive node")
