"""Ctrl-C and SIGTERM as an event, so that what was started is stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Iterator
from typing import TypeVar

from ops.edge import INTERRUPTED, CommandError

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_event() -> Iterator[asyncio.Event]:
    """An event that the first SIGINT or SIGTERM sets, inside a running event loop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def unless_stopped(work: Awaitable[T]) -> T:
    """The result of `work`; on a stop it is cancelled, its clean-up awaited, and CommandError raised."""
    with stop_event() as stopped:
        job = asyncio.ensure_future(work)
        stop = asyncio.create_task(stopped.wait())
        await asyncio.wait((job, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not job.done():
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            raise CommandError("interrupted; everything that was started has been stopped", INTERRUPTED)
        return await job
