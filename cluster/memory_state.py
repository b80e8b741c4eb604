"""The state in memory, with snapshots in memory: for the simulator and for tests. Lost with the process, but for the
snapshots, which the simulator keeps where it keeps the simulated disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from cluster.range_digest import END_KEY, RangeDigest, digest_range
from cluster.replica import View
from cluster.snapshots import decode_manifest
from cluster.snapshots import image_digest as digest_of
from cluster.state import Position
from statemachine.store import MemoryStore, Overlay

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Position, dict[bytes, bytes]]).decode


class MemorySnapshots:
    """What outlives a crash: the newest published snapshot, and pieces of one being fetched."""

    def __init__(self) -> None:
        self.manifest: bytes | None = None
        self.image = b""
        self.fetching: tuple[bytes, bytearray] | None = None
        self.disk_is_full = False

    def take_space(self) -> None:
        """Raise what a full disk would."""
        if self.disk_is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _MemoryView(Overlay):
    def __init__(self, store: MemoryStore, position: Position) -> None:
        super().__init__(store)
        self.revision = position.revision
        self.time_ms = position.time_ms


class _Transaction(Overlay):
    """Writes on top of the store until `commit`."""

    def __init__(self, state: MemoryState) -> None:
        super().__init__(state.store)
        self._state = state

    def write(self, writes: list[tuple[bytes, bytes | None]]) -> None:
        for key, value in writes:
            if value is None:
                self.delete(key)
            else:
                self.put(key, value)

    def commit(self, position: Position) -> None:
        self._state.store.apply(self.writes())
        self._state.position = position

    def abort(self) -> None:
        self.undo()


class _Capture:
    def __init__(self, snapshots: MemorySnapshots, position: Position, image: bytes) -> None:
        self.position = position
        self._snapshots = snapshots
        self._image = image

    def write_steps(self) -> list[Callable[[], None]]:
        return [self._snapshots.take_space]

    def image(self) -> tuple[int, Callable[[int, int], bytes]]:
        return len(self._image), lambda offset, length: self._image[offset : offset + length]

    def publish(self, manifest: bytes) -> None:
        self._snapshots.manifest, self._snapshots.image = manifest, self._image

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Receiving:
    def __init__(self, snapshots: MemorySnapshots, manifest: bytes) -> None:
        if snapshots.fetching is None or snapshots.fetching[0] != manifest:
            snapshots.fetching = (manifest, bytearray())
        self._snapshots = snapshots
        self._data = snapshots.fetching[1]

    def offset(self) -> int:
        return len(self._data)

    def append(self, data: bytes) -> None:
        self._snapshots.take_space()
        self._data.extend(data)

    def finish(self, manifest: bytes, image_digest: bytes) -> bool:
        image = bytes(self._data)
        self._snapshots.fetching = None
        if digest_of(lambda offset, length: image[offset : offset + length], len(image)) != image_digest:
            return False
        self._snapshots.manifest, self._snapshots.image = manifest, image
        return True


class MemoryState:
    """As `State`."""

    def __init__(self, snapshots: MemorySnapshots | None = None) -> None:
        self.snapshots = snapshots or MemorySnapshots()
        self.store = MemoryStore()
        self.position = Position()
        self._built: tuple[Position, MemoryStore] | None = None
        if self.snapshots.manifest is not None:
            self.prepare_install()[0]()
            self.install()

    @contextmanager
    def view(self) -> Iterator[View]:
        yield _MemoryView(self.store, self.position)

    def range_reader(self, start: bytes) -> Callable[[], RangeDigest]:
        # At once: views of this store do not stay as they are.
        found = digest_range(self.store.scan(start, END_KEY))
        return lambda: found

    def begin(self) -> _Transaction:
        return _Transaction(self)

    def size_bytes(self) -> int:
        return 100 * len(self.store)

    def manifest(self) -> bytes | None:
        return self.snapshots.manifest

    def capture(self) -> _Capture:
        items = dict(self.store.scan(b"\x00", b"\xff"))
        return _Capture(self.snapshots, self.position, _encode((self.position, items)))

    def snapshot_index(self) -> int:
        manifest = self.snapshots.manifest
        return 0 if manifest is None else decode_manifest(manifest).position.index

    def read_image(self, offset: int, length: int) -> bytes:
        return self.snapshots.image[offset : offset + length]

    def receive(self, manifest: bytes) -> _Receiving:
        return _Receiving(self.snapshots, manifest)

    def prepare_install(self) -> list[Callable[[], None]]:
        def build() -> None:
            position, items = _decode(self.snapshots.image)
            self._built = (position, MemoryStore(items))

        return [build]

    def install(self) -> None:
        if self._built is None:
            raise AssertionError("install without prepare_install")
        (self.position, self.store), self._built = self._built, None

    def close(self) -> None:
        pass
