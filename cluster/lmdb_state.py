"""The state in LMDB, generation by generation, with its snapshots.

    state/gen-N/data.mdb           the state; commits are not fsynced, the log is the truth
    snapshots/INDEX-TERM/image     a compacted copy of it; `manifest` beside it is written last
    snapshots/fetch-ID             pieces of an image being fetched

Whether an existing generation may be used after a restart is decided by `identity` (boot, file system, clean mark),
not here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from cluster.paced import BYTES_PER_S, Pace, copy_file_paced, copy_written_paced
from cluster.range_digest import END_KEY, RangeDigest, digest_range
from cluster.replica import View
from cluster.snapshot_files import (
    check_image,
    publish_snapshot,
    read_file,
    snapshot_place,
    sync_file,
    sync_folder,
    write_all,
)
from cluster.snapshots import decode_manifest
from cluster.snapshots import image_digest as digest_of
from cluster.state import Position
from statemachine import members
from statemachine.machine import StateUnusableError

_POSITION_KEY = b"\x00position"
"""Before every table of the state machine, and outside the digest chain."""

_READERS_MAX = 1_024
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Position).decode


Get = Callable[[bytes], bytes | None]


def _scan(
    txn: Any, start: bytes, end: bytes, *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor() as cursor:
        if reverse:
            # The last key below `end`: the one before where `end` is or would be.
            found = cursor.prev() if cursor.set_range(end) else cursor.last()
            while found and cursor.key() >= start:
                yield cursor.item()
                found = cursor.prev()
        else:
            found = cursor.set_range(start)
            while found and cursor.key() < end:
                yield cursor.item()
                found = cursor.next()


class _LmdbView:
    """A read transaction, and the `with` that ends it: every request opens one, so there is no generator in between."""

    __slots__ = ("_txn", "get", "revision", "time_ms")

    def __init__(self, txn: Any, position: Position) -> None:
        self._txn = txn
        self.get: Get = txn.get
        self.revision = position.revision
        self.time_ms = position.time_ms

    def __enter__(self) -> _LmdbView:
        return self

    def __exit__(self, *_: object) -> None:
        self._txn.abort()

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return _scan(self._txn, start, end, reverse=reverse)


class _LmdbTransaction:
    """A write transaction over several entries. The first error leaves it unusable: the node stops."""

    __slots__ = ("_get", "_state", "_txn")

    def __init__(self, state: LmdbState) -> None:
        self._state = state
        self._txn: Any = state.env.begin(write=True)
        self._get: Get = self._txn.get

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._get(key)
        except lmdb.Error as error:
            # Not an answer to a command: the other nodes' states are readable.
            raise StateUnusableError(f"reading the state failed: {error}") from error

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from _scan(self._txn, start, end, reverse=reverse)
        except lmdb.Error as error:
            raise StateUnusableError(f"reading the state failed: {error}") from error

    def write(self, writes: list[tuple[bytes, bytes | None]]) -> None:
        puts = [(key, value) for key, value in writes if value is not None]
        try:
            if len(puts) != len(writes):
                for key, value in writes:
                    if value is None:
                        self._txn.delete(key)
            with self._txn.cursor() as cursor:
                cursor.putmulti(puts)
        except lmdb.Error as error:
            raise StateUnusableError(f"writing the state failed: {error}") from error

    def commit(self, position: Position) -> None:
        try:
            self._txn.put(_POSITION_KEY, _encode(position))
            self._txn.commit()
        except lmdb.Error as error:
            raise StateUnusableError(f"committing the state failed: {error}") from error
        self._state.position = position

    def abort(self) -> None:
        self._txn.abort()


class _Capture:
    """A snapshot being taken: the view is held open until the copy is made."""

    def __init__(self, state: LmdbState) -> None:
        self.position = state.position
        self._root = state.snapshots_path
        self._env = state.env
        self._txn = state.env.begin()
        self._aside = self._root / "taking"

    def write_steps(self) -> list[Callable[[], None]]:
        return [self._clear, self._copy]

    def _clear(self) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir(parents=True)

    def _copy(self) -> None:
        copy_written_paced(self._write, self._aside / "image")

    def _write(self, descriptor: int) -> None:
        self._env.copyfd(descriptor, compact=True, txn=self._txn)

    def image(self) -> tuple[int, Callable[[int, int], bytes]]:
        path = self._aside / "image"
        return path.stat().st_size, lambda offset, length: read_file(path, offset, length)

    def publish(self, manifest: bytes) -> None:
        publish_snapshot(self._root, self._aside, self.position, manifest)

    def abandon(self) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)

    def close(self) -> None:
        self._txn.abort()


class _Receiving:
    """An image being fetched; its name is the digest of the manifest, so a transfer goes on after a restart."""

    def __init__(self, root: Path, manifest: bytes, position: Position) -> None:
        self._root = root
        self._position = position
        self._aside = root / f"fetch-{hashlib.blake2b(manifest, digest_size=8).hexdigest()}"
        self._others = [other for other in root.glob("fetch-*") if other != self._aside]
        self._aside.mkdir(parents=True, exist_ok=True)
        self._path = self._aside / "image"
        self._path.touch()
        self._offset = self._path.stat().st_size
        self._pace = Pace()

    def offset(self) -> int:
        return self._offset

    def append(self, data: bytes) -> None:
        # Here and not at the beginning: that runs on the core's thread, and they may be many gigabytes.
        while self._others:
            shutil.rmtree(self._others.pop())
        with self._path.open("ab", buffering=0) as file:
            # What a full disk took of the last try is not to stand before this.
            file.truncate(self._offset)
            write_all(file, data)
            with self._nothing_kept_of_a_failed_sync():
                self._pace.wrote(len(data), file.fileno())
        self._offset += len(data)

    def finish(self, manifest: bytes, image_digest: bytes) -> bool:
        path = self._path
        if digest_of(lambda offset, length: read_file(path, offset, length), self._offset) != image_digest:
            shutil.rmtree(self._aside)
            return False
        with self._nothing_kept_of_a_failed_sync():
            sync_file(path)
        publish_snapshot(self._root, self._aside, self._position, manifest)
        return True

    @contextmanager
    def _nothing_kept_of_a_failed_sync(self) -> Iterator[None]:
        """After it the pages may read as written and never get to the disk, and the next sync says nothing of them: a
        transfer that went on, after a restart too, would end with an image that is gone with the power."""
        try:
            yield
        except OSError:
            self._offset = 0
            os.truncate(self._path, 0)
            raise


@contextmanager
def frozen_view(generation: Path) -> Iterator[View]:
    """A stopped node's generation, looked at without changing a byte of it. Raises lmdb.Error, DecodeError."""
    env = lmdb.open(str(generation), readonly=True, lock=False, create=False)
    try:
        with _LmdbView(env.begin(), Position()) as view:
            yield view
    finally:
        env.close()


def peek_founded(root: Path, generation: int) -> bool:
    """Whether a generation that is not in use knows the members of the cluster; touches nothing. True for one that
    cannot be read: whoever opens it will say so."""
    path = root / "state" / f"gen-{generation}"
    if not path.exists():
        return False
    try:
        with lmdb.open(str(path), readonly=True, lock=False, create=False) as env, env.begin() as txn:
            return next(members.scan(_LmdbView(txn, Position())), None) is not None
    except lmdb.Error:
        return True


class LmdbState:
    """As `State`. `generation` is the number of the one in use; the caller records it once it is (node.json)."""

    def __init__(self, root: Path, map_bytes: int, generation: int | None) -> None:
        """Open `generation`, or with None build the next one from the newest snapshot, or empty without one. Blocks."""
        self.state_path = root / "state"
        self.snapshots_path = root / "snapshots"
        self.state_path.mkdir(parents=True, exist_ok=True)
        self.snapshots_path.mkdir(parents=True, exist_ok=True)
        self._map_bytes = map_bytes
        self._built: int | None = None
        self._retired: list[tuple[lmdb.Environment, Path]] = []
        # What a copy cut short by a full disk has left would keep it full.
        for unfinished in (self.snapshots_path / "taking", self.state_path / "building"):
            if unfinished.exists():
                shutil.rmtree(unfinished)
        if generation is None:
            # Nobody is served yet who could be slowed down.
            self.prepare_install(bytes_per_s=1 << 40)[0]()
            generation, self._built = self._built, None
        if generation is None:
            raise AssertionError("no generation was built")
        self.generation = generation
        self.env = self._open(generation)
        self.position = self._read_position()

    def _path(self, generation: int) -> Path:
        return self.state_path / f"gen-{generation}"

    def _open(self, generation: int) -> lmdb.Environment:
        return lmdb.open(
            str(self._path(generation)),
            map_size=self._map_bytes,
            max_readers=_READERS_MAX,
            sync=False,
            metasync=False,
            writemap=False,
            readahead=True,
        )

    def _read_position(self) -> Position:
        with self.env.begin() as txn:
            data = txn.get(_POSITION_KEY)
        return Position() if data is None else _decode(data)

    def generations(self) -> list[int]:
        """All generations on disk, ascending."""
        return sorted(int(path.name[4:]) for path in self.state_path.glob("gen-*") if path.name[4:].isdigit())

    def view(self) -> AbstractContextManager[View]:
        return _LmdbView(self.env.begin(), self.position)

    def range_reader(self, start: bytes) -> Callable[[], RangeDigest]:
        view = self.view()

        def read() -> RangeDigest:
            with view as open_view:
                return digest_range(open_view.scan(start, END_KEY))

        return read

    def begin(self) -> _LmdbTransaction:
        return _LmdbTransaction(self)

    def size_bytes(self) -> int:
        info, stat = self.env.info(), self.env.stat()
        return int((info["last_pgno"] + 1) * stat["psize"])

    def newest_snapshot(self) -> Path | None:
        """The folder of the newest complete snapshot."""
        complete = [path for path in self.snapshots_path.glob("[0-9]*-*") if (path / "manifest").exists()]
        return max(complete, key=snapshot_place, default=None)

    def manifest(self) -> bytes | None:
        newest = self.newest_snapshot()
        return None if newest is None else (newest / "manifest").read_bytes()

    def capture(self) -> _Capture:
        return _Capture(self)

    def snapshot_index(self) -> int:
        newest = self.newest_snapshot()
        return 0 if newest is None else snapshot_place(newest)[0]

    def _image(self) -> Path:
        newest = self.newest_snapshot()
        if newest is None:
            raise FileNotFoundError("there is no snapshot")
        return newest / "image"

    def read_image(self, offset: int, length: int) -> bytes:
        return read_file(self._image(), offset, length)

    def receive(self, manifest: bytes) -> _Receiving:
        return _Receiving(self.snapshots_path, manifest, decode_manifest(manifest).position)

    def prepare_install(self, bytes_per_s: int = BYTES_PER_S) -> list[Callable[[], None]]:
        def build() -> None:
            number = max(self.generations(), default=0) + 1
            aside = self.state_path / "building"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            newest = self.newest_snapshot()
            if newest is not None:
                copy_file_paced(newest / "image", aside / "data.mdb", bytes_per_s)
                check_image(aside / "data.mdb", newest)
            sync_folder(aside)
            aside.rename(self._path(number))
            sync_folder(self.state_path)
            self._built = number

        return [build]

    def install(self) -> None:
        if self._built is None:
            raise AssertionError("install without prepare_install")
        self._retired.append((self.env, self._path(self.generation)))
        self.generation, self._built = self._built, None
        self.env = self._open(self.generation)
        self.position = self._read_position()

    def retire(self) -> None:
        """Close and delete what `install` replaced (executor step: a sync of it may be under way until then). Views are
        gone after a second, the caller waited for two. ONLY WHAT THIS STATE ITSELF LET GO OF: others on the disk are
        being built, or in use by who came after it."""
        while self._retired:
            env, path = self._retired.pop()
            env.close()
            shutil.rmtree(path)

    def delete_strays(self) -> None:
        """Delete the generations of earlier runs, once this one is recorded as the one in use. Blocks."""
        for number in self.generations():
            if number != self.generation:
                shutil.rmtree(self._path(number))

    def sync(self) -> None:
        """Write everything to disk (executor step)."""
        self.env.sync(True)

    def close(self) -> None:
        self.retire()
        self.env.sync(True)
        self.let_go()

    def let_go(self) -> None:
        """Close everything as it is. Harmless when done twice."""
        for env, _ in self._retired:
            env.close()
        self.env.close()
