"""The replicated state on one node: where it stands in the log, how entries are written to it, how images are taken.

Implementations: `memory_state.MemoryState` and `lmdb_state.LmdbState`, tested by one suite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from cluster.range_digest import RangeDigest
from cluster.replica import View


class Position(msgspec.Struct, array_like=True, frozen=True):
    """Where a state stands: the last entry applied, and the digest chain over all writes up to it."""

    index: int = 1
    term: int = 0
    chain: bytes = b""
    revision: int = 0
    time_ms: int = 0


def next_chain(chain: bytes, index: int, writes: list[tuple[bytes, bytes | None]]) -> bytes:
    """H(chain, index, writes of the entry): equal on two nodes at an index if and only if their states are."""
    digest = hashlib.blake2b(chain, digest_size=16)
    digest.update(index.to_bytes(8, "big"))
    digest.update(msgspec.msgpack.encode(writes))
    return digest.digest()


def may_stay(position: Position, snapshot_index: int, term_at: Callable[[int], int | None]) -> bool:
    """Whether a state found at a start may go on with the log beside it: snapshot <= applied <= end of log, of one
    term.

    `snapshot_index` is 0 without a snapshot, `term_at` asks the log. An older state than the snapshot stands before a
    reset of the log that the crash may have cut off or not: it is built again from the snapshot.
    """
    if position.index < snapshot_index:
        return False
    return position.index == 1 or term_at(position.index) == position.term


class StateTransaction(Protocol):
    """Several entries applied and made visible at once. A `statemachine.store.Reader` of what it wrote so far."""

    def get(self, key: bytes) -> bytes | None: ...
    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]: ...

    def write(self, writes: list[tuple[bytes, bytes | None]]) -> None:
        """The writes of one entry."""

    def commit(self, position: Position) -> None:
        """Make everything visible together with the new position. Not necessarily on disk: the log is the truth."""

    def abort(self) -> None:
        """Forget everything written."""


class Capture(Protocol):
    """An image of the state as it was when `State.capture` was called."""

    position: Position

    def write_steps(self) -> list[Callable[[], None]]:
        """Steps for an executor: write the image aside, and make it durable."""

    def image(self) -> tuple[int, Callable[[int, int], bytes]]:
        """Executor step, after those: the image's length, and how to read (offset, length) of it."""

    def publish(self, manifest: bytes) -> None:
        """Executor step, after the image: store the manifest, durably and atomically. The image counts from now."""

    def abandon(self) -> None:
        """Executor step: delete what was written, since it will not be complete."""

    def close(self) -> None:
        """Let go of the view it was taken from."""


class Receiving(Protocol):
    """An image that is being fetched from a peer. Methods are executor steps."""

    def offset(self) -> int:
        """How much is already here (a broken transfer goes on)."""

    def append(self, data: bytes) -> None:
        """The next bytes."""

    def finish(self, manifest: bytes, image_digest: bytes) -> bool:
        """Check the digest and publish; False when the bytes are not the announced ones (they are deleted)."""


class State(Protocol):
    """One node's state with its snapshots."""

    @property
    def position(self) -> Position:
        """Where the visible state stands."""

    def view(self) -> AbstractContextManager[View]:
        """A consistent view; closed within a second."""

    def begin(self) -> StateTransaction:
        """Begin to apply; one at a time."""

    def range_reader(self, start: bytes) -> Callable[[], RangeDigest]:
        """An executor step that digests the items from `start` on as they are now (`range_digest`)."""

    def size_bytes(self) -> int:
        """About how large the state is."""

    def manifest(self) -> bytes | None:
        """The manifest of the newest complete snapshot."""

    def capture(self) -> Capture:
        """Begin a snapshot of what is visible now."""

    def snapshot_index(self) -> int:
        """Executor step: the index of the newest complete snapshot, 0 without one."""

    def read_image(self, offset: int, length: int) -> bytes:
        """Executor step: bytes of the newest snapshot's image."""

    def receive(self, manifest: bytes) -> Receiving:
        """Begin, or go on, to fetch the image of this manifest."""

    def prepare_install(self) -> list[Callable[[], None]]:
        """Executor steps: build a new generation aside from the newest snapshot."""

    def install(self) -> None:
        """Switch to the generation built last. Old views stay good for their second."""

    def close(self) -> None:
        """Write everything to disk and let go."""
