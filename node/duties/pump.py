"""A duty that runs when there is something to do, so many runs at a time, and not at all otherwise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cluster.replica import NotCommittedError, OutcomeUnknownError
from node.duties.clock import Clock, Timer

_log = logging.getLogger("hive.duties")

DEFECT_PAUSE_S = 1.0

Step = Callable[[], Awaitable[float | None]]
"""One run. Returns after how many seconds it wants to run again by itself; None: when woken; 0: at once."""


class Pump:
    """Runs `step` when woken; wakes that come during a run cause one more.

    With `runs_max` above 1 that one begins at once, while earlier runs wait for what they began; one that has not
    begun yet is run once, however often it was woken.

    A step that the cluster refuses or leaves unknown runs again after `retry_ms`: steps look at the state anew each
    time and believe nothing that they decided before.
    """

    def __init__(self, name: str, clock: Clock, step: Step, *, retry_ms: int, runs_max: int = 1) -> None:
        self._name = name
        self._clock = clock
        self._step = step
        self._retry_s = retry_ms / 1000
        self._runs_max = runs_max
        self._runs: dict[asyncio.Task[None] | None, None] = {}
        self._beginning = False
        self._timer: Timer | None = None
        self._timer_s = 0.0
        self._woken = False
        self._closed = False

    def wake(self) -> None:
        """Run soon."""
        if self._closed:
            return
        self._woken = True
        if not self._beginning and len(self._runs) < self._runs_max:
            self._beginning = True
            run = asyncio.get_running_loop().create_task(self._run(), name=f"duty {self._name}")
            self._runs[run] = None

    def wake_at(self, when_s: float) -> None:
        """Run when the clock shows this, or earlier if it was asked for earlier."""
        if self._closed or (self._timer is not None and self._timer_s <= when_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = when_s
        self._timer = self._clock.call_at(when_s, self._on_timer)

    def close(self) -> None:
        """Stop at once; a proposal under way may still be committed, and is then only believed if it still holds."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for run in self._runs:
            if run is not None:
                run.cancel()

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

    async def _run(self) -> None:
        self._beginning = False
        try:
            while self._woken and not self._closed:
                self._woken = False
                await self._run_once()
        finally:
            # Here and not in a callback: a wake in between would find nobody to hear it.
            self._runs.pop(asyncio.current_task(), None)

    async def _run_once(self) -> None:
        try:
            again_s = await self._step()
        except (NotCommittedError, OutcomeUnknownError) as error:
            _log.debug("duty %s waits: %s", self._name, error)
            again_s = self._retry_s
        except Exception:  # noqa: BLE001 - the edge of a duty: one that died in silence would never run again
            _log.exception("duty %s met a defect; it is tried again", self._name)
            again_s = DEFECT_PAUSE_S
        if again_s == 0:
            self._woken = True
            # A step may find enough to do without ever waiting; the rest of the node must get its turn.
            await asyncio.sleep(0)
        elif again_s is not None:
            self.wake_at(self._clock.monotonic_s() + again_s)
