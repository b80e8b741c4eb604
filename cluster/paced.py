"""Large copies at a steady rate: a gigabyte written at once makes every fsync of the log wait for the device.

What is written is made durable piece by piece, so that the kernel never has much to write back at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

BYTES_PER_S = 64 << 20
"""Beside this a log on a common disk still fsyncs as it does alone; a gigabyte takes 16 seconds."""

_PIECE_BYTES = 1 << 20
_SYNC_BYTES = 4 << 20


class Pace:
    """Of one file that is written piece by piece."""

    def __init__(self, bytes_per_s: int = BYTES_PER_S) -> None:
        self._bytes_per_s = bytes_per_s
        self._ready_s = time.monotonic()
        self._unsynced = 0

    def wrote(self, size: int, descriptor: int) -> None:
        """So many more bytes were written: fsync every few of them, and wait until the next ones are due."""
        self._unsynced += size
        if self._unsynced >= _SYNC_BYTES:
            self._unsynced = 0
            os.fdatasync(descriptor)
        # Time that was not used is not made up for.
        self._ready_s = max(self._ready_s + size / self._bytes_per_s, time.monotonic())
        wait_s = self._ready_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)


def copy_paced(read: Callable[[int], bytes], target: Path, bytes_per_s: int = BYTES_PER_S) -> None:
    """Write everything that `read(bytes_max)` gives, until it gives nothing, to a new file; durable at the end.

    Blocks. Raises OSError.
    """
    pace = Pace(bytes_per_s)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while piece := read(_PIECE_BYTES):
            _write(descriptor, piece)
            pace.wrote(len(piece), descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_file_paced(source: Path, target: Path, bytes_per_s: int = BYTES_PER_S) -> None:
    """`copy_paced` of a file."""
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy_paced(lambda bytes_max: os.read(descriptor, bytes_max), target, bytes_per_s)
    finally:
        os.close(descriptor)


def copy_written_paced(write: Callable[[int], None], target: Path, bytes_per_s: int = BYTES_PER_S) -> None:
    """`copy_paced` of what `write(descriptor)` writes, at the pace at which it is taken. Raises what it raises."""
    reader, writer = os.pipe()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            write(writer)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for this one
            errors.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=run, name="hive-copy", daemon=True)
    thread.start()
    try:
        copy_paced(lambda bytes_max: os.read(reader, bytes_max), target, bytes_per_s)
    finally:
        # Whoever still writes gets EPIPE now.
        os.close(reader)
        thread.join()
    if errors:
        raise errors[0]


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
