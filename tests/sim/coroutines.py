"""An asyncio event loop on simulated time, so that what is written with `await` runs in a simulation as it is."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVarTuple, cast

from tests.sim.clockwork import Action, Host, Scheduler, SimClock

if TYPE_CHECKING:
    from collections.abc import Iterator

_DONE_KEPT_MAX = 64
_Ts = TypeVarTuple("_Ts")


@contextmanager
def running(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """Make this the running loop, for a while; simulated processes call each other, so it nests."""
    before = events._get_running_loop()
    events._set_running_loop(loop)
    try:
        yield
    finally:
        events._set_running_loop(before)


class SimAsyncLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that coroutines need which neither read files nor open sockets. One per process."""

    def __init__(self, scheduler: Scheduler, host: Host, clock: SimClock, on_defect: Callable[[str], None]) -> None:
        self._scheduler = scheduler
        self._host = host
        self._clock = clock
        self._on_defect = on_defect
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._tasks_max = _DONE_KEPT_MAX
        self._over = False

    # The names are asyncio's.

    def time(self) -> float:
        return self._clock.monotonic_s()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._over

    def is_closed(self) -> bool:
        return self._over

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._ready:
            self._scheduler.after(0.0, lambda: self._host.run(self._turn))
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        delay_s = max(0.0, when - self.time()) / self._clock.rate
        self._scheduler.after(delay_s, lambda: self._host.run(lambda: self._run(handle)))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by a handle; `_run` looks at it when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        if len(self._tasks) >= self._tasks_max:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks_max = 2 * len(self._tasks) + _DONE_KEPT_MAX
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # What is said when an object is collected comes at no certain time, and is no part of a simulation.
        if "handle" in context:
            self._on_defect(f"{context.get('message')}: {context.get('exception')!r}")

    def _turn(self) -> None:
        """What was ready when the turn began; what it makes ready has the next one."""
        ready, self._ready = self._ready, deque()
        for handle in ready:
            if not self._over:
                self._run(handle)

    def _run(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            handle._run()

    def kill(self) -> None:
        """The process is gone, in the middle of everything: no coroutine goes on, or acts when it is collected."""
        self._over = True
        with running(None):
            for task in self._tasks:
                if not task.done():
                    cast(Any, task)._log_destroy_pending = False
                    _close(cast("Coroutine[Any, Any, Any]", task.get_coro()))
        self._tasks.clear()


def simulated_loop(scheduler: Scheduler, host: Host, clock: SimClock, on_defect: Callable[[str], None]) -> SimAsyncLoop:
    """A loop for a process; `on_defect` hears of callbacks that raise."""
    return SimAsyncLoop(scheduler, host, clock, on_defect)  # type: ignore[abstract]  # files and sockets are left out


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    """End a coroutine where it stands. What it tries on its way out fails: nothing runs any more."""
    try:
        coroutine.close()
    except (RuntimeError, ValueError):
        return


class ClientHost:
    """The process that all simulated clients share: it never pauses and never dies."""

    def __init__(self, scheduler: Scheduler, on_defect: Callable[[str], None]) -> None:
        self.clock = SimClock(scheduler, 0.0, 1.0)
        self.loop = simulated_loop(scheduler, self, self.clock, on_defect)

    def run(self, action: Action) -> None:
        """Run it on the clients' loop."""
        with running(self.loop):
            action()


async def pass_time(delay_s: float) -> None:
    """Let so much of the process's own time pass: none of ours."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not over.done():
            over.set_result(None)

    timer = loop.call_later(delay_s, end)
    try:
        await over
    finally:
        timer.cancel()
