"""Where the nodes of a run are, and how each is started."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node.config import BY_NAME
from ops.node import node_command
from ops.process import ChildProcess
from tests.nemesis.namespaces import Host
from tests.nemesis.proxy import Proxy

OPTIONS: dict[str, int] = {
    "segment_bytes": 2 << 20,
    "snapshot_log_bytes": 2 << 20,
    "log_keep_bytes": 1 << 20,
    "state_map_bytes": 1 << 30,
    "min_free_bytes": 8 << 20,
    "promote_stable_ms": 1_000,
}
"""So that snapshots, compaction, catching up by snapshot and promotions are everyday things."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node runs, and where others find it: at its proxies."""

    node_id: str
    host: Host
    proxies: tuple[Proxy, Proxy]
    own_http: str
    own_peer: str
    http: str
    peer: str
    data_dir: Path

    def command(self, told: Mapping[str, str]) -> list[str]:
        """Starts the node here. `told`: how it comes to its cluster."""
        options = dict(told) | {
            "node_id": self.node_id,
            "data_dir": str(self.data_dir),
            "http": self.own_http,
            "advertise_http": self.http,
            "peer": self.own_peer,
        }
        options |= {name: str(size) for name, size in OPTIONS.items()}
        words = [word for name, value in options.items() for word in (BY_NAME[name].option, value)]
        return [*self.host.prefix, *node_command(words)]


@dataclass(slots=True)
class Member:
    """One node: where its processes and data are. `may_end`: a fault is on that ends it rightly. `ends` are those that
    nobody had asked for."""

    node_id: str
    place: Place
    process: ChildProcess
    may_end: bool = False
    paused: bool = False
    ends: list[str] = field(default_factory=list)
    watcher: asyncio.Task[None] | None = None

    @property
    def data_dir(self) -> Path:
        return self.place.data_dir

    @property
    def own_endpoint(self) -> str:
        """Past the proxy."""
        return f"http://{self.place.own_http}"
