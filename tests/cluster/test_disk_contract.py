"""What every Disk does, and what the one in memory loses on a crash."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from cluster.memory_disk import SECTOR_BYTES, MemoryDisk
from cluster.ports import Disk
from cluster.real.disk import DirectoryDisk


@pytest.fixture(params=["memory", "directory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "memory":
        yield MemoryDisk()
        return
    real = DirectoryDisk(tmp_path)
    yield real
    real.close()


def test_names_are_sorted(disk: Disk) -> None:
    for name in ("b", "a", "c"):
        disk.create(name)
    assert disk.names() == ["a", "b", "c"]


def test_a_created_file_is_empty_or_zero(disk: Disk) -> None:
    disk.create("empty")
    disk.create("zero", 5000)
    assert disk.size("empty") == 0
    assert disk.read("zero", 0, 9999) == bytes(5000)


def test_create_fails_if_the_file_exists(disk: Disk) -> None:
    disk.create("a")
    disk.write("a", 0, b"kept")
    with pytest.raises(FileExistsError):
        disk.create("a")
    assert disk.read("a", 0, 10) == b"kept"


def test_writes_land_where_they_should(disk: Disk) -> None:
    disk.create("a")
    disk.write("a", 3, b"defg")
    disk.write("a", 4, b"E")
    assert disk.read("a", 0, 100) == b"\0\0\0dEfg"
    assert disk.read("a", 4, 2) == b"Ef"
    assert disk.read("a", 50, 2) == b""


def test_truncate_cuts_and_extends(disk: Disk) -> None:
    disk.create("a")
    disk.write("a", 0, b"abcdef")
    disk.truncate("a", 2)
    disk.truncate("a", 4)
    assert disk.read("a", 0, 10) == b"ab\0\0"


def test_rename_replaces(disk: Disk) -> None:
    for name in ("old", "new"):
        disk.create(name)
        disk.write(name, 0, name.encode())
    disk.rename("old", "new")
    assert disk.names() == ["new"]
    assert disk.read("new", 0, 10) == b"old"
    disk.write("new", 0, b"OLD")
    assert disk.read("new", 0, 10) == b"OLD"


def test_a_deleted_file_is_gone_and_its_name_free(disk: Disk) -> None:
    disk.create("a")
    disk.write("a", 0, b"first")
    disk.delete("a")
    assert disk.names() == []
    with pytest.raises(FileNotFoundError):
        disk.read("a", 0, 1)
    disk.create("a")
    assert disk.read("a", 0, 10) == b""


@pytest.mark.parametrize("operation", ["read", "write", "size", "truncate", "delete", "sync", "rename"])
def test_an_unknown_name_is_refused(disk: Disk, operation: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: disk.read("x", 0, 1),
        "write": lambda: disk.write("x", 0, b"1"),
        "size": lambda: disk.size("x"),
        "truncate": lambda: disk.truncate("x", 0),
        "delete": lambda: disk.delete("x"),
        "sync": lambda: disk.sync("x"),
        "rename": lambda: disk.rename("x", "y"),
    }
    with pytest.raises(FileNotFoundError):
        calls[operation]()
    assert disk.names() == []


def test_synced_content_can_be_read_again(disk: Disk) -> None:
    disk.create("a")
    disk.write("a", 0, b"abc")
    disk.sync("a")
    disk.sync_directory()
    assert disk.read("a", 0, 10) == b"abc"


def test_the_directory_takes_no_paths(tmp_path: Path) -> None:
    disk = DirectoryDisk(tmp_path)
    for name in ("../x", "a/b", "", ".."):
        with pytest.raises(ValueError, match="flat file"):
            disk.create(name)
    disk.close()
    disk.close()


def test_the_directory_is_read_by_the_next_disk(tmp_path: Path) -> None:
    first = DirectoryDisk(tmp_path)
    first.create("a", 100)
    first.write("a", 0, b"abc")
    first.close()
    second = DirectoryDisk(tmp_path)
    assert (second.size("a"), second.read("a", 0, 3)) == (100, b"abc")
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    second.close()


def test_a_failed_preallocation_leaves_no_file(tmp_path: Path) -> None:
    disk = DirectoryDisk(tmp_path)
    with pytest.raises(OSError, match=r"Errno") as failure:
        disk.create("huge", 1 << 62)
    assert failure.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert disk.names() == []
    disk.close()


def test_a_crash_loses_names_until_the_directory_is_synced() -> None:
    seen = set()
    for seed in range(40):
        disk = MemoryDisk()
        disk.create("kept")
        disk.sync_directory()
        disk.create("fresh")
        disk.delete("kept")
        disk.crash(Random(seed))
        seen.add(tuple(disk.names()))
    assert seen == {(), ("kept",), ("fresh",), ("fresh", "kept")}


def test_a_rename_is_lost_or_kept_whole() -> None:
    seen = set()
    for seed in range(20):
        disk = MemoryDisk()
        disk.create("old")
        disk.write("old", 0, b"new content")
        disk.create("target")
        disk.sync("old")
        disk.sync_directory()
        disk.rename("old", "target")
        disk.crash(Random(seed))
        seen.add(tuple((name, disk.read(name, 0, 20)) for name in disk.names()))
    assert seen == {(("target", b"new content"),), (("old", b"new content"), ("target", b""))}


def test_a_crash_keeps_loses_or_tears_each_sector() -> None:
    fates: set[str] = set()
    for seed in range(60):
        disk = MemoryDisk()
        disk.create("a", 4 * SECTOR_BYTES)
        disk.write("a", 0, b"o" * 4 * SECTOR_BYTES)
        disk.sync("a")
        disk.sync_directory()
        disk.write("a", 0, b"n" * 4 * SECTOR_BYTES)
        disk.crash(Random(seed))
        content = disk.read("a", 0, 4 * SECTOR_BYTES)
        for start in range(0, len(content), SECTOR_BYTES):
            sector = content[start : start + SECTOR_BYTES]
            new = sector.count(b"n")
            assert sector == b"n" * new + b"o" * (SECTOR_BYTES - new)
            fates.add("kept" if new == SECTOR_BYTES else "torn" if new else "lost")
    assert fates == {"kept", "torn", "lost"}


def test_a_crash_never_takes_what_was_synced() -> None:
    for seed in range(20):
        disk = MemoryDisk()
        disk.create("a")
        disk.write("a", 0, b"durable")
        disk.sync("a")
        disk.sync_directory()
        disk.write("a", 7, b" and not")
        disk.crash(Random(seed))
        assert disk.read("a", 0, 7) == b"durable"


def test_a_full_disk_takes_no_new_bytes_but_overwrites() -> None:
    disk = MemoryDisk()
    disk.create("a", 100)
    disk.faults.capacity_bytes = 100
    disk.write("a", 90, b"0123456789")
    calls: list[Callable[[], object]] = [
        lambda: disk.write("a", 91, b"0123456789"),
        lambda: disk.create("b", 1),
    ]
    for grow in calls:
        with pytest.raises(OSError, match=r"Errno") as failure:
            grow()
        assert failure.value.errno == errno.ENOSPC
    assert disk.names() == ["a"]


def test_faults_are_errors_of_the_device() -> None:
    disk = MemoryDisk()
    disk.create("a", 10)
    disk.faults.sync_error = disk.faults.read_error = True
    calls: list[Callable[[], object]] = [
        lambda: disk.sync("a"),
        disk.sync_directory,
        lambda: disk.read("a", 0, 1),
    ]
    for call in calls:
        with pytest.raises(OSError, match=r"Errno") as failure:
            call()
        assert failure.value.errno == errno.EIO


def test_corruption_lasts() -> None:
    disk = MemoryDisk()
    disk.create("a", 10)
    disk.sync("a")
    disk.sync_directory()
    disk.corrupt("a", 4)
    disk.crash(Random(1))
    assert disk.read("a", 0, 10) == b"\0\0\0\0\xff\0\0\0\0\0"


def after_a_failed_sync() -> MemoryDisk:
    """Something that was durable, something whose sync failed, and something that was written after that."""
    disk = MemoryDisk()
    disk.create("a")
    disk.write("a", 0, b"durable")
    disk.sync("a")
    disk.sync_directory()
    disk.write("a", 7, b"x" * 3 * SECTOR_BYTES)
    disk.faults.sync_error = True
    with pytest.raises(OSError, match=r"Errno"):
        disk.sync("a")
    disk.faults.sync_error = False
    return disk


def test_what_a_failed_sync_forgot_reads_as_written_and_a_later_sync_does_not_save_it() -> None:
    disk = after_a_failed_sync()
    assert disk.read("a", 0, 9999) == b"durable" + b"x" * 3 * SECTOR_BYTES
    disk.write("a", 7 + 3 * SECTOR_BYTES, b"later")
    disk.sync("a")
    disk.crash(Random(1))
    content = disk.read("a", 0, 9999)
    assert content[:7] == b"durable"
    assert content[-5:] == b"later"
    assert content[7:-5] != b"x" * 3 * SECTOR_BYTES


def test_what_is_written_again_after_a_failed_sync_is_saved_by_the_next() -> None:
    disk = after_a_failed_sync()
    disk.write("a", 7, b"x" * 3 * SECTOR_BYTES)
    disk.sync("a")
    disk.crash(Random(1))
    assert disk.read("a", 0, 9999) == b"durable" + b"x" * 3 * SECTOR_BYTES
