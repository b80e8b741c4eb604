"""What `hive resync` leaves on the disk, also when it is cut short, and what a start makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import resync as module
from cluster.identity import StartError
from cluster.resync import ResyncRefusedError, plan_resync, resync
from statemachine.commands import CreateSession
from tests.cluster.nodes import Nodes, nodes_up
from tests.sim.load import frame_of

_NODE = "n3"


def _identity(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "node.json").read_bytes())
    return found


def _change(path: Path, **fields: Any) -> None:
    (path / "node.json").write_text(json.dumps(_identity(path) | fields))


def _parts(path: Path) -> set[str]:
    return {child.name for child in path.iterdir() if child.is_dir()}


async def _write(nodes: Nodes, name: str) -> None:
    (outcome,) = await nodes.leader.propose([frame_of(name, CreateSession(name))], 10)
    assert outcome.refusal is None


def _run(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Stop a node of three, do something to its directory, start it: in the end it has everything and votes."""

    async def test() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            await _write(nodes, "before")
            await nodes.until_equal()
            await nodes.stop(_NODE)
            await nodes.until_led()
            damage(tmp_path / _NODE)
            await _write(nodes, "meanwhile")
            replica = await nodes.start(_NODE)
            await nodes.until(lambda: not replica.out_of_service)
            await _write(nodes, "after")
            await nodes.until_equal()
            assert replica.core.peers.may_vote()
            assert replica.status().alarms == ()
            found = _identity(tmp_path / _NODE)
            assert (found["rebuilding"], found["state_differs"]) == (False, "")

    asyncio.run(test())


def test_where_the_log_is_whole_only_the_state_goes(tmp_path: Path) -> None:
    def damage(path: Path) -> None:
        _change(path, state_differs="at entry 7 its state is not that of the majority")
        plan = resync(path)
        assert (plan.keeps_log, plan.why) == (True, "at entry 7 its state is not that of the majority")
        assert _parts(path) == {"log"}
        found = _identity(path)
        assert (found["state_differs"], found["rebuilding"], found["clean"]) == ("", False, None)

    _run(tmp_path, damage)


def test_everything_goes_where_it_is_asked_for(tmp_path: Path) -> None:
    def damage(path: Path) -> None:
        before = _identity(path)
        assert not resync(path, everything=True).keeps_log
        assert _parts(path) == set()
        after = _identity(path)
        assert (after["rebuilding"], after["generation"]) == (True, None)
        assert after["journal_id"] == before["journal_id"]
        assert set(after["joined"]) == {"n1", "n2", "n3"}, "where the others are is not forgotten"

    _run(tmp_path, damage)


def test_one_that_was_cut_short_is_ended_by_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(path: Path) -> None:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(module, "delete_everything", _killed)
            resync(path, everything=True)
        assert _parts(path) == {"log", "state", "snapshots"}

    _run(tmp_path, damage)


def test_one_that_was_cut_short_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(path: Path) -> None:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(module, "delete_everything", _killed)
            resync(path, everything=True)
        plan = resync(path)
        assert (plan.keeps_log, plan.why) == (False, "a rebuild was begun")

    _run(tmp_path, damage)


def test_a_node_that_is_killed_while_it_is_rebuilt_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with nodes_up(tmp_path, 3) as nodes:
            await _write(nodes, "before")
            await nodes.stop(_NODE)
            await nodes.stop("n2")
            resync(tmp_path / _NODE, everything=True)
            replica = await nodes.start(_NODE)
            assert replica.status().alarms == ("rebuilding",)
            assert not replica.core.peers.may_vote()
            await nodes.stop(_NODE)
            replica = await nodes.start(_NODE)
            assert _identity(tmp_path / _NODE)["rebuilding"]
            assert "is being rebuilt" in replica.out_of_service
            await nodes.start("n2")
            await nodes.until(lambda: not replica.out_of_service)
            await _write(nodes, "after")

    asyncio.run(test())


def _killed(_: Path) -> None:
    raise KeyboardInterrupt


def test_looking_changes_nothing(tmp_path: Path) -> None:
    def damage(path: Path) -> None:
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        assert plan_resync(path).keeps_log
        assert not plan_resync(path, everything=True).keeps_log
        assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before

    _run(tmp_path, damage)


def test_a_node_that_runs_is_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with nodes_up(tmp_path, 3):
            with pytest.raises(StartError, match="in use by another process"):
                resync(tmp_path / _NODE)

    asyncio.run(test())


def test_a_pair_cannot_rebuild_one_of_them(tmp_path: Path) -> None:
    async def test() -> None:
        async with nodes_up(tmp_path, 2) as nodes:
            await _write(nodes, "before")
            await nodes.stop("n2")
            with pytest.raises(ResyncRefusedError, match="two at least are needed"):
                resync(tmp_path / "n2", everything=True)
            await nodes.start("n2")
            await nodes.until_led()

    asyncio.run(test())
