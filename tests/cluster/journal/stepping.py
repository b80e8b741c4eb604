"""A journal whose disk, clock and worker move only when a test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cluster.journal import Journal, JournalOptions
from cluster.memory_disk import MemoryDisk

JOURNAL_ID = bytes(range(16))
SMALL = JournalOptions(segment_bytes=4096, cache_bytes=0, log_keep_bytes=0, hold_bytes_max=1 << 20)


class SteppingClock:
    """Time that grows by a second with every look at it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        self.now_s += 1.0
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)


@dataclass
class _Job:
    steps: deque[Callable[[], None]]
    done: Callable[[BaseException | None], None]


class SteppingExecutor:
    """Runs one step at a time, in order."""

    def __init__(self) -> None:
        self.jobs: deque[_Job] = deque()

    def submit(self, steps: Sequence[Callable[[], None]], done: Callable[[BaseException | None], None]) -> None:
        self.jobs.append(_Job(deque(steps), done))

    def step(self) -> bool:
        """Run one step, and the end of its job if it was the last; False when there is nothing to run."""
        if not self.jobs:
            return False
        job = self.jobs[0]
        try:
            job.steps.popleft()()
        except OSError as error:
            self.jobs.popleft()
            job.done(error)
            return True
        if not job.steps:
            self.jobs.popleft()
            job.done(None)
        return True

    def run(self) -> None:
        """Run everything, also what is submitted meanwhile."""
        while self.step():
            pass


@dataclass
class Bench:
    """A journal and what stands around it."""

    disk: MemoryDisk
    journal: Journal
    executor: SteppingExecutor = field(default_factory=SteppingExecutor)
    clock: SteppingClock = field(default_factory=SteppingClock)
    failures: list[BaseException] = field(default_factory=list)
    durable_calls: int = 0

    def settle(self) -> None:
        """Flush, and let the worker finish."""
        self.journal.flush()
        self.executor.run()

    def append(self, *terms: int, size: int = 10) -> None:
        """Add one entry of each term, `size` bytes long, behind the last one."""
        for term in terms:
            index = self.journal.last_index + 1
            self.journal.add(f"{index}.{term}.".encode().ljust(size, b"x"), index, term)

    def on_durable(self) -> None:
        self.durable_calls += 1


def open_bench(disk: MemoryDisk | None = None, options: JournalOptions = SMALL, *, create: bool | None = None) -> Bench:
    """A bound journal: a new one when no disk is given, else the one on it."""
    fresh = disk is None if create is None else create
    used = MemoryDisk() if disk is None else disk
    clock = SteppingClock()
    journal = Journal.open(used, journal_id=JOURNAL_ID, options=options, clock=clock, create=fresh)
    bench = Bench(used, journal, clock=clock)
    journal.bind(bench.executor, bench.on_durable, bench.failures.append)
    return bench
