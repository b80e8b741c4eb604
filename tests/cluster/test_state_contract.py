"""What every state does: entries become visible at once, images carry all of it, transfers go on where they stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.lmdb_state import LmdbState
from cluster.memory_state import MemorySnapshots, MemoryState
from cluster.snapshots import Manifest, encode_manifest, image_digest
from cluster.state import Position, State, may_stay, next_chain

Make = Callable[[], State]

_MAP_BYTES = 64 << 20


@pytest.fixture(params=["memory", "lmdb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes states of one kind; each is another node's."""
    made: list[State] = []

    def memory() -> State:
        return MemoryState(MemorySnapshots())

    def lmdb() -> State:
        return LmdbState(tmp_path / f"node-{len(made)}", _MAP_BYTES, None)

    def one() -> State:
        made.append(memory() if request.param == "memory" else lmdb())
        return made[-1]

    yield one
    for state in made:
        state.close()


def _apply(state: State, index: int, *writes: tuple[bytes, bytes | None]) -> None:
    transaction = state.begin()
    transaction.write(list(writes))
    before = state.position
    chain = next_chain(before.chain, index, list(writes))
    transaction.commit(Position(index, 3, chain, before.revision + 1, index * 1000))


def _content(state: State) -> dict[bytes, bytes]:
    with state.view() as view:
        return dict(view.scan(b"t", b"u"))


def _snapshot(state: State) -> bytes:
    capture = state.capture()
    for step in capture.write_steps():
        step()
    size, read = capture.image()
    entry = (b"\x01", capture.position.index, 3)
    manifest = encode_manifest(
        Manifest(1, "c", capture.position, entry, entry, size, image_digest(read, size), ("n1",))
    )
    capture.publish(manifest)
    capture.close()
    return manifest


def _image(state: State) -> bytes:
    return state.read_image(0, 1 << 20)


def _digest(image: bytes) -> bytes:
    return image_digest(lambda offset, length: image[offset : offset + length], len(image))


def _install(state: State) -> None:
    for step in state.prepare_install():
        step()
    state.install()


def test_a_new_state_stands_before_the_first_entry(make: Make) -> None:
    state = make()
    assert state.position == Position()
    assert _content(state) == {}
    assert state.manifest() is None


def test_writes_are_seen_after_the_commit_only(make: Make) -> None:
    state = make()
    _apply(state, 2, (b"ta", b"1"), (b"tb", b"2"))
    transaction = state.begin()
    transaction.write([(b"ta", None), (b"tc", b"3")])
    assert (transaction.get(b"ta"), transaction.get(b"tb"), transaction.get(b"tc")) == (None, b"2", b"3")
    assert dict(transaction.scan(b"ta", b"tb")) == {}
    assert _content(state) == {b"ta": b"1", b"tb": b"2"}
    transaction.commit(Position(3, 3, b"", 2, 3000))
    assert _content(state) == {b"tb": b"2", b"tc": b"3"}
    assert state.position.index == 3


def test_an_aborted_transaction_leaves_nothing(make: Make) -> None:
    state = make()
    transaction = state.begin()
    transaction.write([(b"ta", b"1")])
    transaction.abort()
    assert _content(state) == {}
    assert state.position == Position()


def test_a_view_says_where_it_stands(make: Make) -> None:
    state = make()
    _apply(state, 2, (b"ta", b"1"))
    with state.view() as view:
        assert (view.revision, view.time_ms, view.get(b"ta"), view.get(b"tb")) == (1, 2000, b"1", None)


@pytest.mark.parametrize("reverse", [False, True])
def test_scans_are_ordered_and_half_open(make: Make, reverse: bool) -> None:
    state = make()
    _apply(state, 2, *[(key, key) for key in (b"ta1", b"ta2", b"ta3", b"tb1")])
    with state.view() as view:
        found = [key for key, _ in view.scan(b"ta2", b"tb1", reverse=reverse)]
    assert found == ([b"ta3", b"ta2"] if reverse else [b"ta2", b"ta3"])


def test_an_image_is_what_was_captured(make: Make) -> None:
    giver, taker = make(), make()
    _apply(giver, 2, (b"ta", b"1"))
    capture = giver.capture()
    _apply(giver, 3, (b"ta", b"2"))
    for step in capture.write_steps():
        step()
    size, read = capture.image()
    manifest = encode_manifest(
        Manifest(1, "c", capture.position, (b"\x01", 1, 3), (b"\x01", 2, 3), size, image_digest(read, size), ("n1",))
    )
    capture.publish(manifest)
    capture.close()
    receiving = taker.receive(manifest)
    receiving.append(_image(giver))
    assert receiving.finish(manifest, _digest(_image(giver)))
    _install(taker)
    assert _content(taker) == {b"ta": b"1"}
    assert taker.position == capture.position
    assert taker.manifest() == manifest


def test_the_digest_chain_goes_on_after_an_install(make: Make) -> None:
    giver, taker = make(), make()
    _apply(giver, 2, (b"ta", b"1"))
    manifest = _snapshot(giver)
    receiving = taker.receive(manifest)
    receiving.append(_image(giver))
    assert receiving.finish(manifest, _digest(_image(giver)))
    _install(taker)
    for state in (giver, taker):
        _apply(state, 3, (b"tb", b"2"), (b"ta", None))
    assert giver.position == taker.position
    assert giver.position.chain


def test_a_broken_transfer_goes_on(make: Make) -> None:
    giver, taker = make(), make()
    _apply(giver, 2, (b"ta", b"1" * 5000))
    manifest, image = _snapshot(giver), _image(giver)
    taker.receive(manifest).append(image[:1000])
    again = taker.receive(manifest)
    assert again.offset() == 1000
    again.append(image[1000:])
    assert again.finish(manifest, _digest(image))


def test_another_snapshot_is_fetched_from_its_beginning(make: Make) -> None:
    giver, taker = make(), make()
    _apply(giver, 2, (b"ta", b"1"))
    taker.receive(_snapshot(giver)).append(b"something")
    _apply(giver, 3, (b"ta", b"2"))
    assert taker.receive(_snapshot(giver)).offset() == 0


def test_a_damaged_image_is_refused_and_fetched_anew(make: Make) -> None:
    giver, taker = make(), make()
    _apply(giver, 2, (b"ta", b"1"))
    manifest, image = _snapshot(giver), _image(giver)
    receiving = taker.receive(manifest)
    receiving.append(bytes([image[0] ^ 1]) + image[1:])
    assert not receiving.finish(manifest, _digest(image))
    assert taker.manifest() is None
    assert taker.receive(manifest).offset() == 0


def test_a_newer_snapshot_takes_the_place_of_the_older(make: Make) -> None:
    state = make()
    _apply(state, 2, (b"ta", b"1"))
    _snapshot(state)
    _apply(state, 3, (b"ta", b"2"))
    manifest = _snapshot(state)
    assert state.manifest() == manifest
    _install(state)
    assert _content(state) == {b"ta": b"2"}


def test_generations_on_disk(tmp_path: Path) -> None:
    """A generation is opened again as it was; without one, the next is built from the newest snapshot."""
    state = LmdbState(tmp_path, _MAP_BYTES, None)
    _apply(state, 2, (b"ta", b"1"))
    _snapshot(state)
    _apply(state, 3, (b"ta", b"2"))
    generation, position = state.generation, state.position
    state.close()
    again = LmdbState(tmp_path, _MAP_BYTES, generation)
    assert (again.position, _content(again)) == (position, {b"ta": b"2"})
    again.close()
    rebuilt = LmdbState(tmp_path, _MAP_BYTES, None)
    assert (rebuilt.generation, rebuilt.position.index, _content(rebuilt)) == (generation + 1, 2, {b"ta": b"1"})
    rebuilt.delete_strays()
    assert rebuilt.generations() == [generation + 1]
    rebuilt.close()


def test_memory_is_built_from_its_snapshot() -> None:
    snapshots = MemorySnapshots()
    state = MemoryState(snapshots)
    _apply(state, 2, (b"ta", b"1"))
    _snapshot(state)
    _apply(state, 3, (b"ta", b"2"))
    again = MemoryState(snapshots)
    assert (again.position.index, _content(again)) == (2, {b"ta": b"1"})


@pytest.mark.parametrize(
    ("index", "term", "snapshot_index", "log", "stays"),
    [
        (1, 0, 0, {}, True),
        (5, 2, 0, {5: 2}, True),
        (5, 2, 5, {5: 2}, True),
        (5, 2, 0, {5: 3}, False),
        (5, 2, 0, {4: 2}, False),
        (5, 2, 6, {5: 2, 6: 2}, False),
        (1, 0, 6, {6: 2}, False),
    ],
)
def test_when_a_found_state_may_stay(
    index: int, term: int, snapshot_index: int, log: dict[int, int], stays: bool
) -> None:
    assert may_stay(Position(index, term), snapshot_index, log.get) is stays


def test_the_chain_tells_every_difference() -> None:
    writes: list[tuple[bytes, bytes | None]] = [(b"ta", b"1")]
    others: list[Any] = [(b"", 2, [(b"ta", None)]), (b"", 2, []), (b"", 3, writes), (b"x", 2, writes)]
    chains = {next_chain(*other) for other in others}
    assert len(chains | {next_chain(b"", 2, writes)}) == len(others) + 1
