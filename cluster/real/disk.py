"""One directory of the real file system."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock


class DirectoryDisk:
    """`cluster.ports.Disk` over a directory that exists; files are opened once and stay open until deleted or
    `close`.

    Safe for a reader on one thread beside a writer on another. Files are readable by their owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._files: dict[str, int] = {}
        # Held over every use of a descriptor but fsync, so that none is closed, and its number reused,
        # meanwhile.
        self._lock = Lock()

    def names(self) -> list[str]:
        """Names of all files, sorted."""
        return sorted(entry.name for entry in self._path.iterdir() if entry.is_file())

    def size(self, name: str) -> int:
        """Length of a file, bytes."""
        with self._lock:
            return os.fstat(self._descriptor(name)).st_size

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        with self._lock:
            descriptor = self._descriptor(name)
            data = os.pread(descriptor, length, offset)
            # The kernel returns short of the end for very long reads.
            while len(data) < length:
                more = os.pread(descriptor, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        return data

    def create(self, name: str, preallocate_bytes: int = 0) -> None:
        """Create an empty file, or that many zero bytes with their blocks reserved; fails if it exists."""
        path = self._file(name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if preallocate_bytes:
                os.posix_fallocate(descriptor, 0, preallocate_bytes)
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        with self._lock:
            self._files[name] = descriptor

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write at `offset`; not durable yet."""
        rest = memoryview(data)
        with self._lock:
            descriptor = self._descriptor(name)
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                offset += written
                rest = rest[written:]

    def descriptor(self, name: str) -> int:
        """An open descriptor of a file, for use before the next call."""
        with self._lock:
            return self._descriptor(name)

    def truncate(self, name: str, length: int) -> None:
        """Cut or extend a file to `length` bytes."""
        with self._lock:
            os.ftruncate(self._descriptor(name), length)

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing `new` if it exists."""
        with self._lock:
            self._file(old).replace(self._file(new))
            self._forget(new)
            if old in self._files:
                self._files[new] = self._files.pop(old)

    def delete(self, name: str) -> None:
        """Remove a file."""
        # Outside the lock: to free a large file takes long, and the loop's thread writes to another one meanwhile.
        self._file(name).unlink()
        with self._lock:
            self._forget(name)

    def sync(self, name: str) -> None:
        """fdatasync one file."""
        with self._lock:
            # Waiting under the lock would make a reader wait for the device; a duplicate cannot be closed
            # meanwhile.
            descriptor = os.dup(self._descriptor(name))
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self) -> None:
        """fsync the directory, so that creates, renames and deletes last."""
        os.fsync(self._directory)

    def close(self) -> None:
        """Close every file. Harmless when done twice."""
        with self._lock:
            for name in list(self._files):
                self._forget(name)
            if self._directory >= 0:
                os.close(self._directory)
                self._directory = -1

    def _file(self, name: str) -> Path:
        if os.sep in name or name in ("", ".", ".."):
            raise ValueError(f"{name!r} is not the name of a flat file")
        return self._path / name

    def _descriptor(self, name: str) -> int:
        descriptor = self._files.get(name)
        if descriptor is None:
            descriptor = self._files[name] = os.open(self._file(name), os.O_RDWR | os.O_CLOEXEC)
        return descriptor

    def _forget(self, name: str) -> None:
        descriptor = self._files.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)
