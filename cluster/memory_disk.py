"""A disk in memory that loses what a real one may lose.

Until a file is synced its writes are only promised: a crash keeps or loses each sector of each of them on its
own, or tears it. Until the directory is synced the same holds for every create, rename and delete.

After a FAILED SYNC a kernel may forget that pages are dirty: they read as written until the power goes, a later sync
succeeds, and they are on the disk or not as they were when it failed. Only what is written again is made durable. Names
and lengths are in the journal of a file system, which ends with its first error, so they only stay promised.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from random import Random

SECTOR_BYTES = 512


@dataclass(slots=True)
class DiskFaults:
    """What goes wrong from now on.

    capacity_bytes: more than this in all files together is ENOSPC. sync_error, read_error: EIO.
    """

    capacity_bytes: int | None = None
    sync_error: bool = False
    read_error: bool = False


@dataclass(slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(slots=True)
class _Resize:
    length: int


@dataclass(slots=True, eq=False)
class _File:
    now: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[_Write | _Resize] = field(default_factory=list)


@dataclass(slots=True)
class _Link:
    """`name` came to mean `file`, or nothing; `gone` is the other name of a rename."""

    name: str
    file: _File | None
    gone: str | None = None


class MemoryDisk:
    """`cluster.ports.Disk` in memory, with faults on request. One thread at a time."""

    def __init__(self) -> None:
        self.faults = DiskFaults()
        self.syncs = 0
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._links: list[_Link] = []
        self._rng = Random(0)

    def names(self) -> list[str]:
        """Names of all files, sorted."""
        return sorted(self._names)

    def size(self, name: str) -> int:
        """Length of a file, bytes."""
        return len(self._file(name).now)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        file = self._file(name)
        if self.faults.read_error:
            raise _error(errno.EIO, name)
        return bytes(memoryview(file.now)[offset : offset + length])

    def create(self, name: str, preallocate_bytes: int = 0) -> None:
        """Create an empty file, or that many zero bytes with their blocks reserved; fails if it exists."""
        if name in self._names:
            raise _error(errno.EEXIST, name)
        self._reserve(name, preallocate_bytes)
        file = _File()
        self._link(_Link(name, file))
        if preallocate_bytes:
            self._change(file, _Resize(preallocate_bytes))

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write at `offset`; not durable yet."""
        file = self._file(name)
        self._reserve(name, offset + len(data) - len(file.now))
        self._change(file, _Write(offset, bytes(data)))

    def truncate(self, name: str, length: int) -> None:
        """Cut or extend a file to `length` bytes."""
        file = self._file(name)
        self._reserve(name, length - len(file.now))
        self._change(file, _Resize(length))

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing `new` if it exists."""
        self._link(_Link(new, self._file(old), gone=old))

    def delete(self, name: str) -> None:
        """Remove a file."""
        self._file(name)
        self._link(_Link(name, None))

    def sync(self, name: str) -> None:
        """fdatasync one file."""
        file = self._file(name)
        if self.faults.sync_error:
            self._forget_dirty(file)
            raise _error(errno.EIO, name)
        self.syncs += 1
        for change in file.pending:
            _apply(file.durable, change)
        file.pending.clear()

    def sync_directory(self) -> None:
        """fsync the directory, so that creates, renames and deletes last."""
        if self.faults.sync_error:
            raise _error(errno.EIO, ".")
        self._durable_names = dict(self._names)
        self._links.clear()

    def crash(self, rng: Random) -> None:
        """Lose power: what was not synced is kept, lost or torn as `rng` says. Faults are switched off."""
        self.faults = DiskFaults()
        names = dict(self._durable_names)
        for link in self._links:
            if rng.random() < 0.5:
                _relink(names, link)
        self._names = names
        self._durable_names = dict(names)
        self._links.clear()
        for file in {id(file): file for file in names.values()}.values():
            for change in file.pending:
                _apply_torn(file.durable, change, rng)
            file.pending.clear()
            file.now = bytearray(file.durable)

    def corrupt(self, name: str, offset: int) -> None:
        """Flip every bit of one byte, for good."""
        file = self._file(name)
        file.now[offset] ^= 0xFF
        if offset < len(file.durable):
            file.durable[offset] = file.now[offset]

    def used_bytes(self) -> int:
        """Length of all files together."""
        return sum(len(file.now) for file in self._names.values())

    def _file(self, name: str) -> _File:
        file = self._names.get(name)
        if file is None:
            raise _error(errno.ENOENT, name)
        return file

    def _reserve(self, name: str, more_bytes: int) -> None:
        capacity = self.faults.capacity_bytes
        if capacity is not None and more_bytes > 0 and self.used_bytes() + more_bytes > capacity:
            raise _error(errno.ENOSPC, name)

    def _change(self, file: _File, change: _Write | _Resize) -> None:
        _apply(file.now, change)
        file.pending.append(change)

    def _forget_dirty(self, file: _File) -> None:
        """What was written and not synced is on the disk by now, or torn, or will never be."""
        for change in file.pending:
            if isinstance(change, _Write):
                _apply_torn(file.durable, change, self._rng)
        file.pending = [change for change in file.pending if isinstance(change, _Resize)]

    def _link(self, link: _Link) -> None:
        _relink(self._names, link)
        self._links.append(link)


def _error(number: int, name: str) -> OSError:
    return OSError(number, os.strerror(number), name)


def _relink(names: dict[str, _File], link: _Link) -> None:
    if link.file is None:
        names.pop(link.name, None)
        return
    if link.gone is not None:
        if names.get(link.gone) is not link.file:
            return  # the crash has lost the file that was to be renamed
        del names[link.gone]
    names[link.name] = link.file


def _apply(content: bytearray, change: _Write | _Resize) -> None:
    if isinstance(change, _Resize):
        del content[change.length :]
        content.extend(bytes(change.length - len(content)))
        return
    if len(content) < change.offset:
        content.extend(bytes(change.offset - len(content)))
    content[change.offset : change.offset + len(change.data)] = change.data


def _apply_torn(content: bytearray, change: _Write | _Resize, rng: Random) -> None:
    if isinstance(change, _Resize):
        if rng.random() < 0.5:
            _apply(content, change)
        return
    start, end = change.offset, change.offset + len(change.data)
    while start < end:
        stop = min((start // SECTOR_BYTES + 1) * SECTOR_BYTES, end)
        fate = rng.random()
        if fate < 0.45:
            piece = change.data[start - change.offset : stop - change.offset]
            _apply(content, _Write(start, piece))
        elif fate < 0.55:
            piece = change.data[start - change.offset : stop - change.offset]
            _apply(content, _Write(start, piece[: rng.randrange(len(piece) + 1)]))
        start = stop
