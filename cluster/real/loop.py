"""The core's loop on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cluster.ports import Timer


class AsyncioLoop:
    """As `ports.Loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once after `delay_s` seconds."""
        return self._loop.call_later(delay_s, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the next turn of the loop."""
        self._loop.call_soon(callback)
