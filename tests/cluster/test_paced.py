"""Copies at a steady rate, with a clock that the test moves."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import lmdb
import pytest

from cluster import paced


class _Clock:
    """Time that only sleeping moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.syncs = 0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(time, "sleep", self._sleep)
        fdatasync = os.fdatasync

        def count(descriptor: int) -> None:
            self.syncs += 1
            fdatasync(descriptor)

        monkeypatch.setattr(os, "fdatasync", count)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_copy_is_whole_keeps_its_pace_and_is_synced_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock(monkeypatch)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(10 << 20))
    paced.copy_file_paced(source, tmp_path / "target", bytes_per_s=2 << 20)
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert clock.now_s == pytest.approx(5.0)
    assert clock.syncs == 2, "every 4 MiB; the rest at the end"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600


def test_what_is_written_into_a_pipe_is_taken_at_that_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    data = os.urandom(3 << 20)

    def write(descriptor: int) -> None:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)

    paced.copy_written_paced(write, tmp_path / "target", bytes_per_s=1 << 20)
    assert (tmp_path / "target").read_bytes() == data
    assert clock.now_s == pytest.approx(3.0)


def test_a_store_copied_through_a_pipe_opens(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    with lmdb.open(str(tmp_path / "from"), map_size=1 << 26) as source:
        with source.begin(write=True) as writing:
            for number in range(20_000):
                writing.put(b"%08d" % number, b"x" * 100)
        with source.begin() as seen:
            with source.begin(write=True) as later:
                later.put(b"later", b"")
            (tmp_path / "to").mkdir()
            paced.copy_written_paced(
                lambda descriptor: source.copyfd(descriptor, compact=True, txn=seen), tmp_path / "to" / "data.mdb"
            )
    with lmdb.open(str(tmp_path / "to"), map_size=1 << 26) as copy, copy.begin() as reading:
        assert copy.stat()["entries"] == 20_000
        assert reading.get(b"later") is None


def test_the_error_of_either_side_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        paced.copy_written_paced(fail, tmp_path / "one")

    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    seen: list[str] = []
    write_to_pipe = os.write

    def write(descriptor: int) -> None:
        try:
            while True:
                write_to_pipe(descriptor, b"x" * 65_536)
        except BrokenPipeError:
            seen.append("broken pipe")
            raise

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        paced.copy_written_paced(write, tmp_path / "two")
    assert seen == ["broken pipe"], "the writer ends too"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        paced.copy_file_paced(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"old"
