"""The kernel's fsync, as the log uses it; skipped where the kernel has none."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from cluster.real.disk import DirectoryDisk
from cluster.real.kernel_sync import KernelSync, KernelWriter, open_kernel_writer


@pytest.fixture
def disk(tmp_path: Path) -> DirectoryDisk:
    disk = DirectoryDisk(tmp_path)
    disk.create("log", 1 << 16)
    return disk


def _open(loop: asyncio.AbstractEventLoop, disk: DirectoryDisk) -> KernelWriter:
    writer = open_kernel_writer(loop, disk)
    if writer is None:
        pytest.skip("this kernel has no native AIO, or allows none")
    return writer


async def _written(writer: KernelWriter, name: str, offset: int, data: bytes) -> BaseException | None:
    future: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    writer.write(name, offset, data, future.set_result)
    assert not future.done(), "the end may be heard only after the call has returned"
    async with asyncio.timeout(10):
        return await future


def test_writes_are_in_the_file_and_each_end_is_heard(disk: DirectoryDisk) -> None:
    async def run() -> None:
        writer = _open(asyncio.get_running_loop(), disk)
        ends = [_written(writer, "log", number * 10, b"%010d" % number) for number in range(6)]
        assert await asyncio.gather(*ends) == [None] * 6
        assert disk.read("log", 0, 60) == b"".join(b"%010d" % number for number in range(6))
        writer.close()

    asyncio.run(run())


def test_a_failed_write_is_heard_as_its_error(disk: DirectoryDisk) -> None:
    async def run() -> None:
        writer = _open(asyncio.get_running_loop(), disk)
        error = await _written(writer, "missing", 0, b"x")
        assert isinstance(error, FileNotFoundError)
        writer.close()

    asyncio.run(run())


def test_an_fsync_that_the_kernel_refuses_is_heard_as_its_error() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        try:
            sync = KernelSync(loop)
        except OSError:
            pytest.skip("this kernel has no native AIO, or allows none")
        with pytest.raises(OSError) as caught:
            sync.fdatasync(9_999, lambda _error: None)
        assert caught.value.errno == errno.EBADF
        # A pipe can be opened, and cannot be fsynced.
        reader, writer = os.pipe()
        future: asyncio.Future[BaseException | None] = loop.create_future()
        try:
            sync.fdatasync(writer, future.set_result)
        except OSError as error:
            assert error.errno == errno.EINVAL
        else:
            async with asyncio.timeout(10):
                assert isinstance(await future, OSError)
        os.close(reader)
        os.close(writer)
        sync.close()
        sync.close()

    asyncio.run(run())


def test_nothing_is_heard_after_close(disk: DirectoryDisk) -> None:
    async def run() -> None:
        writer = _open(asyncio.get_running_loop(), disk)
        heard: list[BaseException | None] = []
        writer.write("log", 0, b"x" * 4096, heard.append)
        writer.close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert heard == []

    asyncio.run(run())


def test_a_machine_without_it_gets_none(monkeypatch: pytest.MonkeyPatch, disk: DirectoryDisk) -> None:
    monkeypatch.setattr("platform.machine", lambda: "unheard-of")

    async def run() -> None:
        assert open_kernel_writer(asyncio.get_running_loop(), disk) is None

    asyncio.run(run())
