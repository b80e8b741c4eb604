"""What processes cost: processor time while something is measured, memory and disk after it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

GENERATOR, LEADER, FOLLOWERS = "generator", "leader", "followers"

Cores = dict[str, float]
"""Processor time over wall time, by who used it: 1.0 is one core."""


class CpuMeter:
    """Started when made."""

    def __init__(self, nodes: Mapping[str, int], leader_id: str, others: Mapping[str, int] | None = None) -> None:
        """`nodes` and `others`: process ids by name. This process is the generator."""
        self._pids: dict[str, list[int]] = {GENERATOR: [os.getpid()], LEADER: [nodes[leader_id]]}
        self._pids[FOLLOWERS] = [pid for node_id, pid in nodes.items() if node_id != leader_id]
        self._pids.update({name: [pid] for name, pid in (others or {}).items()})
        self._started_s = time.perf_counter()
        self._before = self._used_s()

    def _used_s(self) -> Cores:
        return {name: sum(_cpu_s(pid) for pid in pids) for name, pids in self._pids.items()}

    def read(self) -> Cores:
        """Cores in use since the start."""
        elapsed_s = time.perf_counter() - self._started_s
        return {name: round((used - self._before[name]) / elapsed_s, 2) for name, used in self._used_s().items()}


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def cores_text(cores: Cores) -> str:
    """generator 0.60, leader 0.81, …"""
    return ", ".join(f"{name} {used:.2f}" for name, used in cores.items() if used)


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """`rss_bytes` counts pages of the memory-mapped state too, which the system takes back when it needs them;
    `anonymous_bytes` are the process's own (None where the system does not tell)."""

    node_id: str
    role: str
    rss_bytes: int
    anonymous_bytes: int | None


def node_memory(node_id: str, role: str, pid: int) -> NodeMemory:
    """The memory of a running node."""
    return NodeMemory(node_id, role, psutil.Process(pid).memory_info().rss, _anonymous_bytes(pid))


def _anonymous_bytes(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^RssAnon:\s+(\d+) kB$", text, re.MULTILINE)
    return None if found is None else int(found[1]) * 1_024
