"""One worker thread that may block."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence

_Job = tuple[Sequence[Callable[[], None]], Callable[[BaseException | None], None]]


class ThreadExecutor:
    """As `ports.Executor`: jobs one after the other on one thread; `done` on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, steps: Sequence[Callable[[], None]], done: Callable[[BaseException | None], None]) -> None:
        """Run the steps, then `done(error)` on the loop's thread."""
        self._jobs.put((steps, done))

    def close(self) -> None:
        """Finish what was submitted, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            steps, done = job
            error: BaseException | None = None
            try:
                for step in steps:
                    step()
            except BaseException as caught:  # noqa: BLE001 - handed to `done`, on the thread that can act on it
                error = caught
            if self._loop.is_closed():
                return
            self._loop.call_soon_threadsafe(done, error)
