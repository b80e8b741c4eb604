"""The journal's way to its executor, and its one failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from cluster.journal.errors import JournalFailed
from cluster.ports import Executor

Step = Callable[[], None]


class Worker:
    """Runs blocking steps: on the executor once bound, before that at once on the calling thread.

    The first failure of any step is final and reported once; nothing that ends after it is heard.
    """

    def __init__(self) -> None:
        self._executor: Executor | None = None
        self._on_failure: Callable[[BaseException], None] | None = None
        self.error: BaseException | None = None

    def bind(self, executor: Executor, on_failure: Callable[[BaseException], None]) -> None:
        """Use this executor from now on, and tell this callback of the failure."""
        self._executor = executor
        self._on_failure = on_failure

    def check(self) -> None:
        """Raise JournalFailed if the journal has ended."""
        if self.error is not None:
            raise JournalFailed(f"the log takes nothing more: {self.error}")

    def submit(self, steps: Sequence[Step], done: Step, forgive: Callable[[BaseException], bool] | None = None) -> None:
        """Run the steps, then `done` on this thread; an error that `forgive` accepts is no failure."""
        if self.error is not None:
            return

        def finished(error: BaseException | None) -> None:
            if self.error is not None:
                return
            if error is None:
                done()
            elif forgive is None or not forgive(error):
                self.report(error)

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
