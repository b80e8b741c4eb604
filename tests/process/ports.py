"""Loopback ports for nodes that come back on the same port.

Below the range the kernel takes outgoing ports from: while a node is down, no connection of others may get its port.
Each parallel test worker draws from a slice of its own.
"""

from __future__ import annotations

import os
import random
import socket

from ops.addresses import HOST

FIRST = 12_000
LAST = 32_000
SLICES = 8

_given: set[int] = set()


def node_ports(count: int) -> list[int]:
    """`count` ports that nothing listens on, none of them given before by this process."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    width = (LAST - FIRST) // SLICES
    first = FIRST + int(worker) % SLICES * width
    candidates = [port for port in range(first, first + width) if port not in _given]
    random.shuffle(candidates)
    found: list[int] = []
    for port in candidates:
        if len(found) == count:
            break
        if _is_free(port):
            _given.add(port)
            found.append(port)
    assert len(found) == count, "no free ports"
    return found


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the nodes do: what a dead node's connections left behind is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
