"""File systems that are small or read-only, where this user may mount them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *words], capture_output=True, text=True, check=False)


@contextmanager
def memory_disk(path: Path, mib: int) -> Iterator[Path]:
    """A file system of so many MiB on an empty directory. Skips the test where mounting is not allowed."""
    path.mkdir()
    try:
        mounted = _mount("-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path))
    except FileNotFoundError:
        pytest.skip("there is no mount program here")
    if mounted.returncode != 0:
        pytest.skip(f"this user may not mount: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        # Lazily: a test that failed may have left a node on it that is only about to be killed.
        subprocess.run(["umount", "-l", str(path)], capture_output=True, check=True)


def remount(path: Path, options: str) -> None:
    """Change a mounted disk: its size, or whether it may be written."""
    mounted = _mount("-o", f"remount,{options}", str(path))
    assert mounted.returncode == 0, mounted.stderr


def fill(path: Path, *, free_bytes: int = 0) -> Path:
    """Leave so much of the disk of this directory (up to 1 MiB more, at no moment less); returns the file to delete."""
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file:
        block_bytes = 1 << 20
        while block_bytes:
            if free_bytes and shutil.disk_usage(path).free < free_bytes + block_bytes:
                return ballast
            try:
                written = file.write(bytes(block_bytes))
                assert written
            except OSError:
                block_bytes //= 2
    return ballast
