"""What only the state on disk has: generations, leftovers, a full or damaged disk, crashes between two steps."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.fatal import way_out
from cluster.identity import StartError
from cluster.lmdb_state import LmdbState
from cluster.memory_state import MemoryState
from cluster.snapshots import Manifest, decode_manifest, encode_manifest, image_digest
from cluster.state import Position, State, next_chain
from statemachine.machine import StateUnusableError

_MAP_BYTES = 16 << 20


@pytest.fixture
def state(tmp_path: Path) -> Iterator[LmdbState]:
    made = LmdbState(tmp_path, _MAP_BYTES, None)
    yield made
    made.close()


def _apply(state: State, index: int, *writes: tuple[bytes, bytes | None]) -> None:
    transaction = state.begin()
    transaction.write(list(writes))
    before = state.position
    chain = next_chain(before.chain, index, list(writes))
    transaction.commit(Position(index, 3, chain, before.revision + 1, index))


def _value(state: State) -> bytes | None:
    with state.view() as view:
        return view.get(b"ta")


def _snapshot(state: State) -> bytes:
    capture = state.capture()
    for step in capture.write_steps():
        step()
    size, read = capture.image()
    entry = (b"\x01", capture.position.index, 3)
    manifest = encode_manifest(Manifest(1, "c", capture.position, entry, entry, size, image_digest(read, size), ()))
    capture.publish(manifest)
    capture.close()
    return manifest


def _build(state: State) -> None:
    for step in state.prepare_install():
        step()


@pytest.mark.parametrize("kind", ["memory", "lmdb"])
def test_scans_agree_at_every_edge(kind: str, state: LmdbState) -> None:
    keys = [b"ta", b"ta\x00", b"tb", b"tb\xff", b"tc", b"t\xff"]
    kept: State = state if kind == "lmdb" else MemoryState()
    _apply(kept, 2, *[(key, key) for key in [*keys, b"s\xff", b"u"]])
    _apply(kept, 3, (b"tb", None))
    present = sorted(set(keys) - {b"tb"})
    bounds = [b"t", *keys, b"tbb", b"u"]
    with kept.view() as view:
        for start in bounds[:-1]:
            for end in bounds:
                expected = [key for key in present if start <= key < end]
                assert [key for key, _ in view.scan(start, end)] == expected
                assert [key for key, _ in view.scan(start, end, reverse=True)] == expected[::-1]


def test_an_empty_state_is_scanned_both_ways(state: LmdbState) -> None:
    with state.view() as view:
        assert list(view.scan(b"t", b"u")) == []
        assert list(view.scan(b"t", b"u", reverse=True)) == []


def test_views_from_before_an_install_stay_good_until_they_are_retired(state: LmdbState) -> None:
    _apply(state, 2, (b"ta", b"old"))
    _snapshot(state)
    with state.view() as view:
        _build(state)
        state.install()
        _apply(state, 3, (b"ta", b"new"))
        assert view.get(b"ta") == b"old"
        assert view.revision == 1
    assert _value(state) == b"new"
    state.retire()
    assert state.generations() == [state.generation]


def test_a_generation_that_is_built_survives_the_retiring_of_an_older_one(
    state: LmdbState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer of the install before may run out at any moment, also between the last two steps of building."""
    _apply(state, 2, (b"ta", b"1"))
    _snapshot(state)
    _build(state)
    state.install()
    rename = Path.rename

    def rename_and_retire(path: Path, target: Path) -> Path:
        renamed = rename(path, target)
        state.retire()
        return renamed

    monkeypatch.setattr(Path, "rename", rename_and_retire)
    _build(state)
    monkeypatch.undo()
    state.install()
    assert (state.position.index, _value(state)) == (2, b"1")


def test_a_late_retiring_leaves_the_successor_alone(tmp_path: Path) -> None:
    """The replica was closed, and opened again within the time that its views were given."""
    old = LmdbState(tmp_path, _MAP_BYTES, None)
    _apply(old, 2, (b"ta", b"1"))
    _snapshot(old)
    _build(old)
    old.install()
    old.close()
    new = LmdbState(tmp_path, _MAP_BYTES, None)
    old.retire()
    assert new.generation in new.generations()
    new.close()


def test_what_a_full_disk_cut_short_is_deleted_first_of_all(tmp_path: Path) -> None:
    for unfinished in ("snapshots/taking", "state/building"):
        (tmp_path / unfinished).mkdir(parents=True)
        (tmp_path / unfinished / "data.mdb").write_bytes(bytes(4096))
    state = LmdbState(tmp_path, _MAP_BYTES, None)
    assert not (tmp_path / "snapshots/taking").exists()
    assert not (tmp_path / "state/building").exists()
    state.close()


@pytest.mark.parametrize("where", [0, -1])
def test_a_damaged_snapshot_is_never_built_upon(tmp_path: Path, where: int) -> None:
    """H9: a node with a damaged state would acknowledge, vote and lead."""
    state = LmdbState(tmp_path, _MAP_BYTES, None)
    _apply(state, 2, (b"ta", b"1" * 10_000))
    _snapshot(state)
    state.close()
    image = tmp_path / "snapshots" / "2-3" / "image"
    data = bytearray(image.read_bytes())
    data[where] ^= 1
    image.write_bytes(data)
    with pytest.raises(StartError, match="does not match its digest"):
        LmdbState(tmp_path, _MAP_BYTES, None)


@pytest.mark.parametrize("victim", ["rmtree", "rename"])
def test_a_crash_while_a_snapshot_is_published_leaves_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    """Also when it is of the same entry as the one before: that happens after a restart."""
    state = LmdbState(tmp_path, _MAP_BYTES, None)
    _apply(state, 2, (b"ta", b"1"))
    _snapshot(state)
    capture = state.capture()
    for step in capture.write_steps():
        step()
    size, read = capture.image()
    entry = (b"\x01", 2, 3)
    manifest = encode_manifest(Manifest(1, "c", capture.position, entry, entry, size, image_digest(read, size), ()))

    def crash(*_: object) -> None:
        raise GeneratorExit

    monkeypatch.setattr(shutil if victim == "rmtree" else Path, victim, crash)
    with pytest.raises(GeneratorExit):
        capture.publish(manifest)
    monkeypatch.undo()
    capture.close()
    state.close()
    again = LmdbState(tmp_path, _MAP_BYTES, None)
    assert (again.position.index, again.snapshot_index(), _value(again)) == (2, 2, b"1")
    _apply(again, 3, (b"ta", b"2"))
    _snapshot(again)
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["3-3"]
    again.close()


def test_pieces_of_another_image_are_deleted_off_the_cores_thread(tmp_path: Path) -> None:
    giver, taker = LmdbState(tmp_path / "a", _MAP_BYTES, None), LmdbState(tmp_path / "b", _MAP_BYTES, None)
    _apply(giver, 2, (b"ta", b"1"))
    taker.receive(_snapshot(giver)).append(b"something")
    (first,) = taker.snapshots_path.iterdir()
    _apply(giver, 3, (b"ta", b"2"))
    receiving = taker.receive(_snapshot(giver))
    assert first.exists()
    receiving.append(b"something")
    assert not first.exists()
    giver.close()
    taker.close()


def test_a_map_that_is_full_is_said_so_and_nothing_is_half_written(tmp_path: Path) -> None:
    state = LmdbState(tmp_path, 256 << 10, None)
    _apply(state, 2, (b"ta", b"1"))
    before = state.position
    transaction = state.begin()
    with pytest.raises(StateUnusableError) as full:
        transaction.write([(b"t%d" % number, bytes(2000)) for number in range(200)])
    transaction.abort()
    assert "--state-map-bytes" in way_out(full.value)
    assert (state.position, _value(state)) == (before, b"1")
    state.close()


def test_it_is_closed_while_a_snapshot_is_being_taken(tmp_path: Path) -> None:
    state = LmdbState(tmp_path, _MAP_BYTES, None)
    _apply(state, 2, (b"ta", b"1"))
    state.capture()
    state.close()
    again = LmdbState(tmp_path, _MAP_BYTES, state.generation)
    assert (again.position.index, again.manifest()) == (2, None)
    again.close()


def _fails(*_arguments: object) -> None:
    raise OSError(errno.EIO, "the device has failed")


@pytest.mark.parametrize("place", ["cluster.lmdb_state.sync_file", "cluster.lmdb_state.Pace.wrote"])
def test_nothing_is_kept_of_an_image_whose_sync_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """It would be whole to look at, and a later sync would say so, until the power goes."""
    giver, taker = LmdbState(tmp_path / "a", _MAP_BYTES, None), LmdbState(tmp_path / "b", _MAP_BYTES, None)
    _apply(giver, 2, (b"ta", b"1"))
    manifest = _snapshot(giver)
    image, digest = giver.read_image(0, _MAP_BYTES), decode_manifest(manifest).image_digest
    receiving = taker.receive(manifest)
    receiving.append(image[:100])
    with monkeypatch.context() as patch:
        patch.setattr(place, _fails)
        with pytest.raises(OSError, match="the device has failed"):
            receiving.append(image[100:])
            receiving.finish(manifest, digest)
    again = taker.receive(manifest)
    assert (receiving.offset(), again.offset()) == (0, 0)
    again.append(image)
    assert again.finish(manifest, digest)
    giver.close()
    taker.close()
