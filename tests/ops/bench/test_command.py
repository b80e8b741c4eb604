from __future__ import annotations

from pathlib import Path

import pytest

from ops.bench.machine import describe_machine, file_system
from tests.ops.command_line import hive


@pytest.mark.process
def test_restart_small(tmp_path: Path) -> None:
    printed = hive("bench", "restart", "--events", "2500", "--nodes", "1", "--data-dir", str(tmp_path), "--json")
    assert printed.status == 0, printed.stderr
    figures = printed.document
    assert figures["events"] == 2500
    assert 0 < figures["stale_read_s"] <= figures["ready_s"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_failover_small(tmp_path: Path) -> None:
    printed = hive("bench", "failover", "--kills", "1", "--data-dir", str(tmp_path), "--json")
    assert printed.status == 0, printed.stderr
    figures = printed.document
    assert len(figures["failover_ms"]) == 1
    assert figures["acknowledged"] > 0
    assert figures["lost"] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("connections", ["x", "0", "1,,2"])
def test_wrong_connections_are_usage_errors(connections: str, tmp_path: Path) -> None:
    printed = hive("bench", "http", "--connections", connections, "--data-dir", str(tmp_path))
    assert printed.status == 2
    assert "--connections" in printed.stderr


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    printed = hive("bench", "http", "--data-dir", str(tmp_path / "file"))
    assert printed.status == 1
    assert "another --data-dir" in printed.stderr
    assert printed.stderr.count("\n") == 1


def test_the_machine_is_described(tmp_path: Path) -> None:
    found = describe_machine(tmp_path)
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 0
    assert found["hive"]
    assert file_system(Path("/proc")) in ("proc", "unknown")
