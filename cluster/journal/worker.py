"""The journal's way to its executor, and its one failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from cluster.journal.errors import JournalFailed
from cluster.ports import Disk, DurableWriter, Executor

Step = Callable[[], None]


class Worker:
    """Runs blocking steps: on the executor once bound, before that at once on the calling thread.

    The first failure of any step is final and reported once; nothing that ends after it is heard.
    """

    def __init__(self) -> None:
        self._executor: Executor | None = None
        self._writer: DurableWriter | None = None
        self._on_failure: Callable[[BaseException], None] | None = None
        self.error: BaseException | None = None

    def bind(
        self, executor: Executor, on_failure: Callable[[BaseException], None], writer: DurableWriter | None
    ) -> None:
        """Use these from now on, and tell this callback of the failure."""
        self._executor = executor
        self._writer = writer
        self._on_failure = on_failure

    def check(self) -> None:
        """Raise JournalFailed if the journal has ended."""
        if self.error is not None:
            raise JournalFailed(f"the log takes nothing more: {self.error}")

    def submit(self, steps: Sequence[Step], done: Step, forgive: Callable[[BaseException], bool] | None = None) -> None:
        """Run the steps, then `done` on this thread; an error that `forgive` accepts is no failure."""
        if self.error is not None:
            return
        finished = self._finish(done, forgive)
        if self._executor is not None:
            self._executor.submit(steps, finished)
            return
        try:
            for step in steps:
                step()
        except OSError as error:
            finished(error)
            if self.error is not None:
                raise
        else:
            finished(None)

    def write(self, disk: Disk, name: str, offset: int, data: bytes, done: Step) -> None:
        """Write and fsync a part of one file, then `done` on this thread. Not ordered with what was submitted."""
        if self._writer is None:
            self.submit([partial(disk.write, name, offset, data), partial(disk.sync, name)], done)
        elif self.error is None:
            self._writer.write(name, offset, data, self._finish(done, None))

    def _finish(
        self, done: Step, forgive: Callable[[BaseException], bool] | None
    ) -> Callable[[BaseException | None], None]:
        def finished(error: BaseException | None) -> None:
            if self.error is not None:
                return
            if error is None:
                done()
            elif forgive is None or not forgive(error):
                self.report(error)

        return finished

    def run_here(self, steps: Sequence[Step]) -> None:
        """Run the steps on this thread, whatever the executor does."""
        self.check()
        try:
            for step in steps:
                step()
        except OSError as error:
            self.report(error)
            raise

    def report(self, error: BaseException) -> None:
        """End the journal; the owner of the process hears of the first failure only."""
        if self.error is None:
            self.error = error
            if self._on_failure is not None:
                self._on_failure(error)

    def fail(self, error: BaseException) -> NoReturn:
        """`report`, and raise to whoever is calling."""
        self.report(error)
        raise JournalFailed(f"the log has failed: {error}") from error

    def end_use(self) -> None:
        """Accept nothing more, without a failure."""
        if self.error is None:
            self.error = JournalFailed("it is closed")
