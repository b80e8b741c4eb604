"""What the README shows must be true: its example runs, its settings and commands are those of the program."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from node.config import markdown_table
from ops.process import ChildProcess
from tests.ops.command_line import hive
from tests.ops.local import on_cluster

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN_LINES = 40


def test_settings_are_those_of_the_node() -> None:
    found = re.search(r"<!-- settings:.*?-->\n(.*?)\n<!-- /settings -->", README, re.DOTALL)
    assert found is not None
    assert found[1].strip() == markdown_table().strip()


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"`hive ((?:task|agent|session|member|bench) )?([a-z|\\-]+)", README))
    assert len(named) > 10
    for noun, verbs in named:
        for verb in verbs.replace("\\", "").split("|"):
            if verb != "node":  # its help is the node's own
                assert hive(*noun.split(), verb, "--help").status == 0, (noun, verb)


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", README)) - {"it"} <= targets


def example() -> str:
    found = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_first_screen_has_the_commands_and_the_example() -> None:
    first = "\n".join(README.splitlines()[:FIRST_SCREEN_LINES])
    assert "make demo" in first
    assert "make test" in first
    assert example() in first
    assert len([line for line in example().splitlines() if line.strip()]) == 10


@pytest.mark.process
def test_the_example_works_when_pasted(tmp_path: Path) -> None:
    async def scenario(cluster_endpoint: str) -> None:
        path = tmp_path / "example.py"
        path.write_text(example().replace("http://127.0.0.1:7400", cluster_endpoint), encoding="utf-8")
        process = ChildProcess("example", [sys.executable, str(path)], tmp_path / "out.log")
        await process.start()
        assert await process.wait() == 0
        assert (tmp_path / "out.log").read_text(encoding="utf-8") == "42\n"

    on_cluster(tmp_path / "cluster", 1, lambda cluster, client: scenario(cluster.endpoints[0]))
    shutil.rmtree(tmp_path / "cluster")
