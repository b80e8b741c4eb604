"""fdatasync by the kernel's own workers: Linux native AIO (io_submit(2), IOCB_CMD_FDSYNC, Linux 4.18).

A thread of ours that waits for the disk needs the interpreter's lock before and after, and takes it away from the loop
each time; with more processes than cores it may then wait for a core while it holds up everybody. The kernel needs
none: the loop writes, submits, and hears of the end through an eventfd.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import platform
import struct
import sys
from collections.abc import Callable

from cluster.real.disk import DirectoryDisk

Done = Callable[[BaseException | None], None]

_SYSCALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""io_setup, io_destroy, io_getevents, io_submit by machine (asm/unistd.h)."""

_FDSYNC = 3
_RESULT_TO_EVENTFD = 1
_IN_FLIGHT_MAX = 8
_IOCB = struct.Struct("<QIiHhIQQqQII")
"""data, key, rw_flags, opcode, priority, descriptor, buffer, bytes, offset, reserved, flags, eventfd
(linux/aio_abi.h)."""

_EVENT = struct.Struct("<QQqq")
"""data, object, result, second result."""

log = logging.getLogger("hive.cluster.disk")


class KernelSync:
    """Fsyncs of one process. Made by `open_kernel_sync`; everything on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError where the kernel has no such thing, or does not allow it."""
        numbers = _SYSCALLS.get(platform.machine())
        if sys.platform != "linux" or numbers is None or sys.byteorder != "little":
            raise OSError("no native AIO on this platform")
        _, self._destroy, self._getevents, self._submit = numbers
        # PyDLL: these calls do not wait, and letting go of the interpreter's lock costs more than they take.
        self._syscall = ctypes.PyDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        self._check(self._syscall(numbers[0], ctypes.c_uint(_IN_FLIGHT_MAX), ctypes.byref(self._context)))
        self._loop = loop
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._block = ctypes.create_string_buffer(_IOCB.size)
        self._blocks = (ctypes.c_void_p * 1)(ctypes.addressof(self._block))
        self._events = ctypes.create_string_buffer(_EVENT.size * _IN_FLIGHT_MAX)
        self._now = (ctypes.c_long * 2)(0, 0)
        self._number = 0
        self._under_way: dict[int, Done] = {}
        loop.add_reader(self._eventfd, self._ready)
        try:
            self._probe()
        except OSError:
            self.close()
            raise

    def _probe(self) -> None:
        """A kernel that knows AIO may still not know this operation."""
        nothing = os.memfd_create("hive-probe")
        try:
            self.fdatasync(nothing, lambda _error: None)
        finally:
            os.close(nothing)

    def fdatasync(self, descriptor: int, done: Done) -> None:
        """Begin an fdatasync; `done(error)` is called from the loop. Raises OSError if it was not begun."""
        self._number += 1
        number = self._number
        # The kernel copies the block before the call returns, so one is enough.
        _IOCB.pack_into(
            self._block, 0, number, 0, 0, _FDSYNC, 0, descriptor, 0, 0, 0, 0, _RESULT_TO_EVENTFD, self._eventfd
        )
        self._under_way[number] = done
        try:
            self._check(self._syscall(self._submit, self._context, ctypes.c_long(1), self._blocks))
        except OSError:
            del self._under_way[number]
            raise

    def close(self) -> None:
        """Forget what is under way; waits for the kernel."""
        if self._eventfd >= 0:
            self._under_way.clear()
            self._loop.remove_reader(self._eventfd)
            self._syscall(self._destroy, self._context)
            os.close(self._eventfd)
            self._eventfd = -1

    def _ready(self) -> None:
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return
        count = self._check(
            self._syscall(
                self._getevents,
                self._context,
                ctypes.c_long(0),
                ctypes.c_long(_IN_FLIGHT_MAX),
                self._events,
                self._now,
            )
        )
        for position in range(count):
            number, _, result, _ = _EVENT.unpack_from(self._events, position * _EVENT.size)
            done = self._under_way.pop(number, None)
            if done is not None:
                done(None if result >= 0 else OSError(-result, os.strerror(-result)))

    def _check(self, result: int) -> int:
        if result < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return result


class KernelWriter:
    """As `ports.DurableWriter`, for the files of one directory."""

    def __init__(self, loop: asyncio.AbstractEventLoop, disk: DirectoryDisk, sync: KernelSync) -> None:
        self._loop = loop
        self._disk = disk
        self._sync = sync

    def write(self, name: str, offset: int, data: bytes, done: Done) -> None:
        """Write into the kernel's cache here, and let the kernel make it durable."""
        try:
            self._disk.write(name, offset, data)
            self._sync.fdatasync(self._disk.descriptor(name), done)
        except OSError as error:
            self._loop.call_soon(done, error)

    def close(self) -> None:
        """Let go of the kernel's side."""
        self._sync.close()


def open_kernel_writer(loop: asyncio.AbstractEventLoop, disk: DirectoryDisk) -> KernelWriter | None:
    """A writer for the directory where the kernel has such a thing; None: a thread does it."""
    try:
        return KernelWriter(loop, disk, KernelSync(loop))
    except OSError as error:
        log.info("the log is fsynced by a thread: %s", error)
        return None
