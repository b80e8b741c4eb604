"""The whole demonstration, small: real nodes, real agents, a real SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from ops.demo import command
from ops.demo.plan import TRIALS
from ops.demo.source import find_sources
from ops.process import ChildProcess
from tests.ops.command_line import hive
from tests.ops.local import LIMIT_S


def write_tree(root: Path, files: int) -> None:
    for number in range(files):
        (root / f"f{number}.py").write_text(f"import os\n\ndef f{number}(x):\n    return x if x else {number}\n")


@pytest.mark.process
def test_the_main_job(tmp_path: Path) -> None:
    write_tree(tmp_path, 40)
    printed = hive("demo", str(tmp_path), "--quick", "--restart-after-s", "0.5", "--json")
    assert printed.status == 0, printed.stderr
    report = printed.document
    assert report["good"] is True
    assert report["tasks_submitted"] == report["tasks_completed"] == 85
    assert report["results_recorded_twice"] == report["tasks_lost"] == report["results_unconfirmed"] == []
    assert report["killed_at_completed"] >= 40
    assert report["failover_ms"] > 0
    assert report["term_after"] > 1
    assert report["rejoined"]["node_id"] == report["leader_killed"]
    assert report["rejoined"]["differences"] == 0
    # Two steps and a result for each file task, one step and a result for the report, a result for each survey,
    # what the paused and the replaced agent were told, the probe of the failover.
    assert report["events_written"] >= 3 * 80 + 2 + 4 + 2 + 1
    assert_stages(report)
    assert (report["tally"]["outlined"], report["tally"]["functions"]) == (40, 40)
    assert report["tally"]["findings"] == {"unused-import": 40}
    assert len(report["tally"]["most_complex"]) == 10
    assert "SIGKILL" in printed.stderr


def assert_stages(report: dict[str, Any]) -> None:
    """What happened to the agents, told independently of the rules of `ops.demo.stages`."""
    assert report["explained_well"] is True
    assert [stage for stage in report["stages"] if stage["wrong"]] == []
    told = {trial: [(s["status"], s["reasons"]) for s in report["stages"] if s["trial"] == trial] for trial in TRIALS}
    agents = {trial: [s["agent_id"] for s in report["stages"] if s["trial"] == trial] for trial in TRIALS}
    held: tuple[str, list[str]] = ("running", [])
    resting, ended = ("scheduled", ["not_before"]), ("completed", ["ended"])
    assert told["killed"] == [held, held, resting, held, ended]
    assert agents["killed"] == ["outliner", "outliner", None, "stand-in", "stand-in"]
    assert told["paused"] == [held, held, resting, held, ended, ended]
    assert agents["paused"] == ["linter", "linter", None, "stand-in", "stand-in", "stand-in"]
    assert told["drained"] == [held, ("pending", ["all_draining"]), held, ended]
    assert agents["drained"] == ["generalist", None, "stand-in", "stand-in"]
    assert [status for status, _ in told["replaced"]][:2] == ["running", "running"]
    assert told["replaced"][-1] == ended
    assert set(agents["replaced"]) == {"reporter"}
    refusals = [stage["stage"] for stage in report["stages"] if "refused" in stage["stage"]]
    assert len(refusals) == 2
    assert all("stale_" in stage for stage in refusals)


@pytest.mark.process
def test_what_is_lost_is_reported_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, 3)
    found = find_sources(tmp_path)
    monkeypatch.setattr(command, "find_sources", lambda _: replace(found, paths=(*found.paths, "gone.py")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    printed = hive("demo", str(tmp_path), "--quick", "--restart-after-s", "0", "--json")
    assert printed.status == 1
    report = printed.document
    assert report["good"] is False
    assert (report["tasks_submitted"], report["tasks_completed"]) == (13, 10)
    assert [task_id.split("-", 2)[2] for task_id in report["tasks_lost"]] == ["lint-3", "outline-3", "report-0-0"]
    assert report["tally"] is None
    assert "logs are in" in printed.stderr
    assert len(list(tmp_path.glob("hive-demo-*/n1.log"))) == 1


def test_a_folder_without_python_is_a_usage_error(tmp_path: Path) -> None:
    assert hive("demo", str(tmp_path)).status == 2
    assert hive("demo", str(tmp_path / "none")).status == 2


@pytest.mark.process
def test_an_interrupted_demonstration_stops_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, 2)

    async def scenario() -> None:
        words = [sys.executable, "-P", "-c", "from ops.cli import main; main()", "demo", str(tmp_path)]
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        process = ChildProcess("demo", words, None, subprocess.PIPE)
        async with asyncio.timeout(LIMIT_S):
            await process.start()
            while b"SIGKILL for the leader" not in (line := await process.output.readline()):
                assert line
            children = psutil.Process(process.pid).children()
            assert len(children) >= 5  # two nodes, and the agents but the one that was killed
            os.kill(process.pid, signal.SIGINT)
            assert b"interrupted" in await process.output.read()
            assert await process.wait() == 130
            assert not any(child.is_running() for child in children)

    asyncio.run(scenario())
    assert list(tmp_path.glob("hive-demo-*")) == []
