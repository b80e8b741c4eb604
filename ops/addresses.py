"""Loopback addresses for local clusters: which are free, which are taken."""

from __future__ import annotations

import contextlib
import socket

from ops.edge import CommandError

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """`count` ports that nothing listens on now. Another process may take one before it is used; nodes then say so."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        # All are held at once, so that no port comes twice.
        for listener in sockets:
            listener.bind((HOST, 0))
        return [listener.getsockname()[1] for listener in sockets]


def require_free(ports: list[int]) -> None:
    """Raises CommandError naming the first port that is taken."""
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                way_out = "stop what listens there, or give another --http-port"
                raise CommandError(f"port {port} cannot be used: {error.strerror}; {way_out}") from error
