"""What a measurement ran on, so that figures of two machines are not taken for each other's."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

# fsync costs nothing there, so durable writes cannot be measured on it.
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


def describe_machine(data_dir: Path) -> dict[str, Any]:
    """Processor, memory, file system of the data, versions."""
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "file_system": file_system(data_dir),
        "python": platform.python_version(),
        "hive": version("hive"),
        "etcd": _first_line(["etcd", "--version"]),
        "wrk": _first_line(["wrk", "--version"]),
    }


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`."""
    best, name = "", "unknown"
    resolved = str(path.resolve())
    for partition in psutil.disk_partitions(all=True):
        mount = partition.mountpoint
        holds = resolved == mount or resolved.startswith(mount.rstrip(os.sep) + os.sep)
        if holds and len(mount) >= len(best):
            best, name = mount, partition.fstype
    return name


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return name or platform.processor()


def _first_line(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    # wrk prints its version with its usage and an exit status of 1.
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return (done.stdout or done.stderr).splitlines()[0].strip()
