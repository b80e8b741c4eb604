"""A network namespace for each node, joined by veth pairs to a bridge here. A node whose pair is down hears silence
from the kernel itself: nothing is refused, nothing reset.

    node n1 [10.213.N.11] -- veth pair --+
    node n2 [10.213.N.12] -- veth pair --+-- bridge [10.213.N.1]: proxies and clients
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from itertools import count


class NoNamespacesError(Exception):
    """This user may not make them here."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where a node runs: the address it listens on, and what its command line begins with."""

    address: str
    prefix: tuple[str, ...] = ()


class Namespaces:
    """Made by `make`, taken away by `remove`; nodes come and go. Names hold the process id: runs do not meet."""

    def __init__(self) -> None:
        self._tag = f"{os.getpid() % 0xFFFFF:05x}"
        self._net = f"10.213.{os.getpid() % 250 + 1}"
        self._numbers: dict[str, int] = {}
        self.address = f"{self._net}.1"
        """Of this side: proxies listen on it."""

    def make(self) -> None:
        """Raises NoNamespacesError."""
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            self.remove()
            said = error.stderr.decode().strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
            raise NoNamespacesError(f"network namespaces cannot be made here: {said}") from error

    def add(self, node_id: str) -> Host:
        """A namespace for one more node, and where it is to run."""
        self._numbers[node_id] = next(number for number in count(11) if number not in self._numbers.values())
        space, here = self._space(node_id), self._cable(node_id)
        _ip("netns", "add", space)
        _ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", here, "master", self._bridge)
        _ip("link", "set", here, "up")
        _ip("-n", space, "address", "add", f"{self._host(node_id).address}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        return self._host(node_id)

    def drop(self, node_id: str) -> None:
        """Take one node's away; its address is free."""
        _forget("netns", "del", self._space(node_id))
        _forget("link", "del", self._cable(node_id))
        del self._numbers[node_id]

    def remove(self) -> None:
        """Take everything away, as far as it is there."""
        for node_id in list(self._numbers):
            self.drop(node_id)
        _forget("link", "del", self._bridge)

    def _host(self, node_id: str) -> Host:
        return Host(f"{self._net}.{self._numbers[node_id]}", ("ip", "netns", "exec", self._space(node_id)))

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


def _forget(*words: str) -> None:
    subprocess.run(["ip", *words], check=False, capture_output=True)
