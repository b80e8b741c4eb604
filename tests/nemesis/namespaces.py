"""A network namespace for each node, joined by veth pairs to a bridge here. A node whose pair is down hears silence
from the kernel itself: nothing is refused, nothing reset.

    node n1 [10.213.N.11] -- veth pair --+
    node n2 [10.213.N.12] -- veth pair --+-- bridge [10.213.N.1]: proxies and clients
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass


class NoNamespacesError(Exception):
    """This user may not make them here."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where a node runs: the address it listens on, and what its command line begins with."""

    address: str
    prefix: tuple[str, ...] = ()


class Namespaces:
    """Made by `make`, taken away by `remove`. Names hold the process id: runs do not meet."""

    def __init__(self, node_ids: Iterable[str]) -> None:
        self._tag = f"{os.getpid() % 0xFFFFF:05x}"
        self._net = f"10.213.{os.getpid() % 250 + 1}"
        self._node_ids = list(node_ids)
        self.address = f"{self._net}.1"
        """Of this side: proxies listen on it."""

    def make(self) -> None:
        """Raises NoNamespacesError."""
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for node_id in self._node_ids:
                self._join(node_id)
        except (OSError, subprocess.CalledProcessError) as error:
            self.remove()
            said = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
            raise NoNamespacesError(f"network namespaces cannot be made here: {said}") from error

    def _join(self, node_id: str) -> None:
        space, here = self._space(node_id), self._cable(node_id)
        _ip("netns", "add", space)
        _ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", here, "master", self._bridge)
        _ip("link", "set", here, "up")
        _ip("-n", space, "address", "add", f"{self.host(node_id).address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Take everything away, as far as it is there."""
        for command in [
            *(["netns", "del", self._space(node_id)] for node_id in self._node_ids),
            *(["link", "del", self._cable(node_id)] for node_id in self._node_ids),
            ["link", "del", self._bridge],
        ]:
            subprocess.run(["ip", *command], check=False, capture_output=True)

    def host(self, node_id: str) -> Host:
        """Where this node is to run."""
        number = self._node_ids.index(node_id)
        return Host(f"{self._net}.{11 + number}", ("ip", "netns", "exec", self._space(node_id)))

    def unplug(self, node_id: str) -> None:
        """Take the cable out."""
        _ip("link", "set", self._cable(node_id), "down")

    def plug(self, node_id: str) -> None:
        """Put it in again."""
        _ip("link", "set", self._cable(node_id), "up")

    @property
    def _bridge(self) -> str:
        return f"hv{self._tag}"

    def _space(self, node_id: str) -> str:
        return f"hive-{self._tag}-{node_id}"

    def _cable(self, node_id: str) -> str:
        return f"hv{self._tag}{node_id}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
