"""Polls that a newer one elsewhere has ended: told to their nodes, each of which keeps one question open for it."""

from __future__ import annotations

import asyncio

from node.duties.clock import Clock
from node.duties.fleet import Poll

UNTOLD_MAX = 10_000
"""Ends kept for a node that does not ask; older ones are dropped, their polls run out by themselves."""


class PollEnds:
    """Ends that were not told yet, by the run of the node, and nodes that wait to be told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._untold: dict[str, list[int]] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}

    def tell(self, ended: Poll) -> None:
        """A poll was ended by a newer one at another node."""
        numbers = self._untold.setdefault(ended.node_run, [])
        numbers.append(ended.number)
        del numbers[:-UNTOLD_MAX]
        self._wake(ended.node_run)

    async def wait(self, node_run: str, wait_s: float) -> tuple[int, ...]:
        """The ends of this node's polls; empty when there were none in time."""
        if node_run not in self._untold and wait_s > 0:
            self._wake(node_run)
            asking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._asking[node_run] = asking
            timer = self._clock.call_at(self._clock.monotonic_s() + wait_s, lambda: _done(asking))
            try:
                await asking
            finally:
                timer.cancel()
                if self._asking.get(node_run) is asking:
                    del self._asking[node_run]
        return tuple(self._untold.pop(node_run, ()))

    def close(self) -> None:
        """Answer all who wait: the term is over."""
        for asking in self._asking.values():
            _done(asking)

    def _wake(self, node_run: str) -> None:
        asking = self._asking.pop(node_run, None)
        if asking is not None:
            _done(asking)


def _done(asking: asyncio.Future[None]) -> None:
    if not asking.done():
        asking.set_result(None)
