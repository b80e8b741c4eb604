"""The files of snapshots: named by where they stand, complete or not there at all."""

from __future__ import annotations

import os
import shutil
from io import RawIOBase
from pathlib import Path

from cluster.identity import StartError
from cluster.snapshots import decode_manifest
from cluster.snapshots import image_digest as digest_of
from cluster.state import Position


def snapshot_place(snapshot: Path) -> tuple[int, ...]:
    """(index, term) of a snapshot's folder, with a number if there have been several of the same."""
    return tuple(map(int, snapshot.name.split("-")))


def check_image(copy: Path, snapshot: Path) -> None:
    """H9: nothing else would notice a damaged image. Raises StartError: the log behind it is gone."""
    manifest = decode_manifest((snapshot / "manifest").read_bytes())
    if digest_of(lambda offset, length: read_file(copy, offset, length), copy.stat().st_size) != manifest.image_digest:
        raise StartError(
            f"snapshot {snapshot} is damaged: its image does not match its digest; bring it back from a copy, or "
            "run hive resync to rebuild this node from the others"
        )


def write_all(file: RawIOBase, data: bytes) -> None:
    """Write to an unbuffered file, however much it takes at once. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def read_file(path: Path, offset: int, length: int) -> bytes:
    """Up to so many bytes from `offset`."""
    with path.open("rb") as file:
        return os.pread(file.fileno(), length, offset)


def sync_file(path: Path) -> None:
    """fsync a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """fsync a directory, so that names in it last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_snapshot(root: Path, aside: Path, position: Position, manifest: bytes) -> None:
    """Manifest last, then the rename: a snapshot without its manifest, or still aside, does not exist."""
    target, attempt = root / f"{position.index}-{position.term}", 0
    # The same state may have been published before. It goes only when this one is there.
    while target.exists():
        attempt += 1
        target = root / f"{position.index}-{position.term}-{attempt}"
    (aside / "manifest").write_bytes(manifest)
    sync_file(aside / "manifest")
    sync_folder(aside)
    aside.rename(target)
    sync_folder(root)
    for other in root.glob("[0-9]*-*"):
        if other != target:
            shutil.rmtree(other)
