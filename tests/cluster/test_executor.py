"""Jobs run in order on a thread of their own; their ends are heard on the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial

from cluster.host import GuardedExecutor
from cluster.real.executor import ThreadExecutor


def test_jobs_run_in_order_elsewhere_and_end_here() -> None:
    async def play() -> None:
        executor = ThreadExecutor(asyncio.get_running_loop(), "worker")
        ran: list[tuple[int, str]] = []
        ended: list[tuple[int, str, BaseException | None]] = []

        def step(number: int) -> None:
            ran.append((number, threading.current_thread().name))

        def done(number: int, error: BaseException | None) -> None:
            ended.append((number, threading.current_thread().name, error))

        for number in range(3):
            executor.submit([partial(step, number)] * 2, partial(done, number))
        await asyncio.get_running_loop().run_in_executor(None, executor.close)
        await asyncio.sleep(0)
        here = threading.current_thread().name
        assert ran == [(number, "worker") for number in (0, 0, 1, 1, 2, 2)]
        assert ended == [(number, here, None) for number in range(3)]

    asyncio.run(play())


def test_an_error_ends_its_job_only() -> None:
    async def play() -> None:
        executor = ThreadExecutor(asyncio.get_running_loop(), "worker")
        ran: list[str] = []
        ended: list[BaseException | None] = []
        fault = OSError(28, "full")

        def fail() -> None:
            raise fault

        executor.submit([lambda: ran.append("before"), fail, lambda: ran.append("after")], ended.append)
        executor.submit([lambda: ran.append("next")], ended.append)
        await asyncio.get_running_loop().run_in_executor(None, executor.close)
        await asyncio.sleep(0)
        assert ran == ["before", "next"]
        assert ended == [fault, None]

    asyncio.run(play())


def test_a_loop_that_has_gone_is_no_reason_to_fail() -> None:
    loop = asyncio.new_event_loop()
    executor = ThreadExecutor(loop, "worker")
    loop.close()
    executor.submit([lambda: None], lambda _: None)
    executor.close()


class _AtOnce:
    def submit(self, steps: Sequence[Callable[[], None]], done: Callable[[BaseException | None], object]) -> None:
        for step in steps:
            step()
        done(None)


def test_what_a_job_leads_to_passes_the_guard() -> None:
    """The loop would only log a fault in it, and the node go on."""
    faults: list[Exception] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except ZeroDivisionError as error:
            faults.append(error)

    def done(_: BaseException | None) -> None:
        raise ZeroDivisionError

    GuardedExecutor(_AtOnce(), guarded).submit([], done)
    assert len(faults) == 1
