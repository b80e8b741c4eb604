"""The listening socket and its connections."""

from __future__ import annotations

import asyncio
import socket

from node.http.connection import Connection, Handler, Malformed

BACKLOG = 1_024


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the first address of `host`. Raises OSError when the port is taken."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


class HttpServer:
    """Serves a handler on one socket."""

    def __init__(self, handle: Handler, malformed: Malformed) -> None:
        self._handle = handle
        self._malformed = malformed
        self._open: set[Connection] = set()
        self._listener: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> int:
        """Serve on a bound socket; returns its port. Raises OSError when another process was quicker."""
        self._listener = await asyncio.get_running_loop().create_server(self._connect, sock=listener, backlog=BACKLOG)
        return int(listener.getsockname()[1])

    def _connect(self) -> Connection:
        return Connection(self._handle, self._malformed, self._open)

    def stop_accepting(self) -> None:
        """Take no more connections, and close those that are idle."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._open):
            connection.close_if_idle()

    async def stop(self, timeout_s: float) -> None:
        """Wait for requests under way, then close every connection."""
        self.stop_accepting()
        tasks = [connection.task for connection in self._open if connection.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
        for connection in list(self._open):
            connection.close()
        if self._listener is not None:
            await self._listener.wait_closed()
