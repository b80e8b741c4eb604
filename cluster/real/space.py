"""How much the file system of a directory has left."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

MEASURE_EVERY_S = 1.0

log = logging.getLogger("hive.cluster.space")


def free_bytes_of(path: Path) -> int:
    """What an ordinary user may still write there. Raises OSError; may block where the disk is remote."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


class SpaceWatch:
    """Measures now and then, off the loop's thread, until `stopped()`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        measured: Callable[[int], None],
        stopped: Callable[[], bool],
        measure: Callable[[Path], int] = free_bytes_of,
    ) -> None:
        self._loop = loop
        self._measure = partial(measure, path)
        self._measured = measured
        self._stopped = stopped
        self._failing = False

    def begin(self) -> None:
        """Measure now, and again and again."""
        if not self._stopped():
            self._loop.run_in_executor(None, self._measure).add_done_callback(self._done)

    def _done(self, measuring: asyncio.Future[int]) -> None:
        if self._stopped() or measuring.cancelled():
            return
        error = measuring.exception()
        if error is None:
            self._measured(measuring.result())
        elif not self._failing:
            log.error("free space cannot be measured: %s", error)
        self._failing = error is not None
        self._loop.call_later(MEASURE_EVERY_S, self.begin)
