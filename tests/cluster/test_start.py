"""Starting again after every kind of end: what can be trusted is kept, the rest is built again, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

from cluster import start
from cluster.identity import DataDirectory, StartError
from cluster.journal import Journal
from cluster.lmdb_state import LmdbState
from cluster.node_replica import NodeReplica
from cluster.settings import Limits, ReplicaOptions
from cluster.start import open_replica
from cluster.state import Position
from statemachine import machine
from statemachine.commands import CreateSession
from tests.cluster.abandoning import abandon
from tests.sim.load import frame_of

_LIMITS = Limits(segment_bytes=64 << 10, log_keep_bytes=0, state_map_bytes=16 << 20)


async def _open(path: Path, fatal: list[BaseException] | None = None) -> NodeReplica:
    options = ReplicaOptions(
        "n1", path, "127.0.0.1:1", "", {"n1": "127.0.0.1:1"}, b"", "0.1.0", limits=_LIMITS
    )
    ended: list[BaseException] = [] if fatal is None else fatal
    return await open_replica(options, machine.apply, ended.append)


async def _write(replica: NodeReplica, count: int) -> None:
    for number in range(count):
        name = f"s{replica.revision}-{number}"
        (outcome,) = await replica.propose([frame_of(name, CreateSession(name))], 10)
        assert outcome.refusal is None


def _run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def _content(replica: NodeReplica) -> dict[bytes, bytes]:
    with replica.view() as view:
        return dict(view.scan(b"J", b"K"))


def _identity(path: Path) -> dict[str, Any]:
    identity: dict[str, Any] = json.loads((path / "node.json").read_text())
    return identity


def _change(path: Path, **fields: Any) -> None:
    (path / "node.json").write_text(json.dumps(_identity(path) | fields))


async def _used(path: Path, *, killed: bool = False, snapshot: bool = False) -> dict[bytes, bytes]:
    """A node that has worked and ended; what it holds."""
    replica = await _open(path)
    await _write(replica, 3)
    if snapshot:
        await replica.snapshot()
    await _write(replica, 2)
    content = _content(replica)
    assert len(content) == 5
    await (abandon(replica) if killed else replica.close())
    return content


async def _comes_back(path: Path, content: dict[bytes, bytes], *, generation: int) -> None:
    """It holds the same, and goes on working."""
    replica = await _open(path)
    await replica.read_barrier(10)
    assert _content(replica) == content
    assert _identity(path)["generation"] == generation
    assert [folder.name for folder in (path / "state").iterdir()] == [f"gen-{generation}"]
    await _write(replica, 1)
    assert len(_content(replica)) == len(content) + 1
    await replica.close()


def _nothing(_path: Path) -> None:
    pass


def _another_boot(path: Path) -> None:
    _change(path, boot_id="another")


def _another_file_system(path: Path) -> None:
    _change(path, file_system_id="another", boot_id="another")


def _mark_elsewhere(path: Path) -> None:
    mark = _identity(path)["clean"]
    _change(path, boot_id="another", clean=mark | {"index": mark["index"] - 1})


def _mark_of_another_term(path: Path) -> None:
    mark = _identity(path)["clean"]
    _change(path, boot_id="another", clean=mark | {"term": mark["term"] + 1})


def _generation_gone(path: Path) -> None:
    shutil.rmtree(path / "state")


def _generation_damaged(path: Path) -> None:
    (path / "state" / "gen-1" / "data.mdb").write_bytes(b"\xff" * 16384)


def _position(path: Path, change: Callable[[Position], Position]) -> None:
    state = LmdbState(path, 16 << 20, 1)
    transaction = state.begin()
    transaction.commit(change(state.position))
    state.close()


def _beyond_the_log(path: Path) -> None:
    _position(path, lambda now: msgspec.structs.replace(now, index=now.index + 100))


def _of_another_term(path: Path) -> None:
    _position(path, lambda now: msgspec.structs.replace(now, term=now.term + 1))


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize(
    ("killed", "change", "kept"),
    [
        (False, _nothing, True),
        (False, _another_boot, True),
        (False, _mark_elsewhere, False),
        (False, _mark_of_another_term, False),
        (False, _generation_gone, False),
        (False, _generation_damaged, False),
        (True, _nothing, True),
        (True, _another_boot, False),
        (True, _another_file_system, False),
        (True, _beyond_the_log, False),
        (True, _of_another_term, False),
    ],
)
def test_what_is_trusted_is_kept_and_the_rest_built_again(
    tmp_path: Path, killed: bool, change: Callable[[Path], None], kept: bool, snapshot: bool
) -> None:
    async def play() -> None:
        content = await _used(tmp_path, killed=killed, snapshot=snapshot)
        change(tmp_path)
        next_one = 1 if change is _generation_gone else 2
        await _comes_back(tmp_path, content, generation=1 if kept else next_one)

    _run(play())


class _Crash(BaseException):  # as a kill: nothing is there to catch it
    pass


def _at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool, call: int = 1) -> None:
    """The process dies at the n-th call of this, before or after it has happened."""
    real, calls = getattr(owner, name), [0]

    def dying(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] != call:
            return real(*arguments, **named)
        if after:
            real(*arguments, **named)
        raise _Crash(name)

    monkeypatch.setattr(owner, name, dying)


_OPENING: list[tuple[Any, str, int]] = [
    (DataDirectory, "save", 1),
    (DataDirectory, "save", 2),
    (start, "_log_disk", 1),
    (Journal, "sync_blocking", 1),
    (start, "_open_state", 1),
    (LmdbState, "delete_strays", 1),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name", "call"), _OPENING)
def test_a_first_start_that_dies_anywhere_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, after: bool
) -> None:
    async def play() -> None:
        _at(monkeypatch, owner, name, after=after, call=call)
        if name == "sync_blocking":
            # Only reached at the end of a run.
            replica = await _open(tmp_path)
            with pytest.raises(_Crash):
                await replica.close()
        else:
            with pytest.raises(_Crash):
                await _open(tmp_path)
        monkeypatch.undo()
        replica = await _open(tmp_path)
        await _write(replica, 1)
        await replica.close()

    _run(play())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("owner", "name"), [(start, "_open_state"), (DataDirectory, "save"), (LmdbState, "delete_strays")]
)
def test_a_rebuild_that_dies_anywhere_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool
) -> None:
    async def play() -> None:
        content = await _used(tmp_path, killed=True, snapshot=True)
        _another_boot(tmp_path)
        _at(monkeypatch, owner, name, after=after)
        with pytest.raises(_Crash):
            await _open(tmp_path)
        monkeypatch.undo()
        replica = await _open(tmp_path)
        await replica.read_barrier(10)
        assert _content(replica) == content
        assert len(list((tmp_path / "state").iterdir())) == 1
        await replica.close()

    _run(play())


_ENDING = [
    (Journal, "sync_blocking"),
    (LmdbState, "sync"),
    (LmdbState, "close"),
    (DataDirectory, "save"),
    (Journal, "close"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), _ENDING)
@pytest.mark.parametrize("another_boot", [False, True])
def test_an_end_that_dies_anywhere_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool, another_boot: bool
) -> None:
    async def play() -> None:
        replica = await _open(tmp_path)
        await _write(replica, 3)
        content = _content(replica)
        _at(monkeypatch, owner, name, after=after)
        with pytest.raises(_Crash):
            await replica.close()
        monkeypatch.undo()
        if another_boot:
            _another_boot(tmp_path)
        again = await _open(tmp_path)
        await again.read_barrier(10)
        assert _content(again) == content
        await again.close()

    _run(play())


def test_a_running_node_has_no_clean_mark(tmp_path: Path) -> None:
    async def play() -> None:
        await _used(tmp_path)
        assert _identity(tmp_path)["clean"] is not None
        replica = await _open(tmp_path)
        assert _identity(tmp_path)["clean"] is None
        await replica.close()

    _run(play())


def test_a_write_back_error_condemns_the_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops what it could not write: this boot is no reason to trust the state any more."""

    async def play() -> None:
        content = await _used(tmp_path)
        replica = await _open(tmp_path)

        def fail(_: LmdbState) -> None:
            raise lmdb.DiskError("input/output error")

        monkeypatch.setattr(LmdbState, "sync", fail)
        with pytest.raises(lmdb.DiskError):
            await replica.close()
        monkeypatch.undo()
        await _comes_back(tmp_path, content, generation=2)

    _run(play())


def test_after_a_fault_nothing_is_vouched_for(tmp_path: Path) -> None:
    async def play() -> None:
        content = await _used(tmp_path)
        fatal: list[BaseException] = []
        replica = await _open(tmp_path, fatal)
        fault = AssertionError("a defect")
        replica.core.fail(fault)
        assert fatal == [fault]
        await replica.close()
        assert _identity(tmp_path)["clean"] is None
        await _comes_back(tmp_path, content, generation=1)

    _run(play())


def test_a_log_without_the_snapshot_before_it_is_refused(tmp_path: Path) -> None:
    async def play() -> None:
        replica = await _open(tmp_path)
        await _write(replica, 3)
        index = await replica.snapshot()
        await _write(replica, 3)
        assert replica.status().log_first_index > 1
        assert index > 1
        await replica.close()
        shutil.rmtree(tmp_path / "snapshots")
        shutil.rmtree(tmp_path / "state")
        for _ in range(2):  # the second time as the first: nothing was touched, and nothing is still locked
            with pytest.raises(StartError, match="the snapshot before it is missing"):
                await _open(tmp_path)

    _run(play())


def test_an_unreadable_manifest_is_named_in_one_line(tmp_path: Path) -> None:
    async def play() -> None:
        await _used(tmp_path, snapshot=True)
        (manifest,) = (tmp_path / "snapshots").glob("*/manifest")
        manifest.write_bytes(b"\xc1")
        for _ in range(2):
            with pytest.raises(StartError, match="unreadable") as refused:
                await _open(tmp_path)
            assert "\n" not in str(refused.value)

    _run(play())
