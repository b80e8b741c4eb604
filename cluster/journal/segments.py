"""The segment files: which there are, where a stream offset lies in them, how they come and go."""

from __future__ import annotations

import errno
import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import NamedTuple

from cluster.journal.options import JournalOptions
from cluster.journal.worker import Step, Worker
from cluster.ports import Disk

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NAME = re.compile(r"(\d{20})\.seg")
_ZERO_BLOCK_BYTES = 1 << 20
_ZERO_BLOCK = bytes(_ZERO_BLOCK_BYTES)


class Segment(NamedTuple):
    """A segment file; `base` is the stream offset of its first byte."""

    number: int
    base: int


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"{number:020d}.seg"


def segment_numbers(disk: Disk) -> list[int]:
    """Numbers of all segment files, ascending; other files are none of the journal's business."""
    found = (_NAME.fullmatch(name) for name in disk.names())
    return sorted(int(match[1]) for match in found if match)


def is_zero(data: bytes, start: int = 0) -> bool:
    """Whether everything from `start` on is zero, as in blocks that were reserved and never written."""
    for position in range(start, len(data), _ZERO_BLOCK_BYTES):
        block = data[position : position + _ZERO_BLOCK_BYTES]
        if block != _ZERO_BLOCK[: len(block)]:
            return False
    return True


class Segments:
    """The started segments, oldest first, and the spare one behind them.

    sealed: the last segment has lost its reserved blocks when it was cut, so it is not written again.

    The list belongs to the core's thread. `ensure` and `_remove` block and run on the worker, or on the
    core's thread at start and stop; the lock is for the moment of a stop when both might.
    """

    def __init__(
        self,
        disk: Disk,
        worker: Worker,
        options: JournalOptions,
        known: list[Segment],
        present: set[int],
        *,
        sealed: bool,
    ) -> None:
        self.disk = disk
        self.sealed = sealed
        self.spare_ready = False
        self._reserving = False
        self._worker = worker
        self._segment_bytes = options.segment_bytes
        self._known = known
        self._durable_number = known[-1].number if known else -1
        self._bases = [segment.base for segment in known]
        self._present = present
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def last(self) -> Segment | None:
        """The segment that is being written, None before the first."""
        return self._known[-1] if self._known else None

    def start_next(self, base: int) -> Segment:
        """Begin a segment whose first byte has stream offset `base`; the file is made when it is written."""
        segment = Segment(self._known[-1].number + 1 if self._known else 0, base)
        self._known.append(segment)
        self.sealed = self.spare_ready = False
        self._bases.append(base)
        return segment

    def locate(self, offset: int) -> tuple[Segment, int]:
        """The segment that holds a stream offset, and the stream offset at which the next one begins."""
        position = bisect_right(self._bases, offset)
        end = self._bases[position] if position < len(self._bases) else 1 << 64
        return self._known[position - 1], end

    def drop_before(self, offset: int) -> list[int]:
        """Forget the segments that lie wholly before a stream offset; returns their numbers, oldest first."""
        count = max(bisect_right(self._bases, offset) - 1, 0)
        gone = [segment.number for segment in self._known[:count]]
        del self._known[:count], self._bases[:count]
        return gone

    def begun(self, number: int) -> None:
        """The first group of a segment is durable: its successor may be reserved."""
        self._durable_number = number
        self.prepare_spare()

    def prepare_spare(self) -> None:
        """Reserve the next segment. A disk too full for it is no failure: the current one has its blocks."""
        if not self._reserving:
            # Behind a segment that is durable, never behind one that is only begun: a file behind the spare tells
            # recovery that the spare was written.
            number = self._durable_number + 1
            steps: list[Step] = [
                partial(self.ensure, number),
                partial(self.disk.sync, segment_name(number)),
                self.disk.sync_directory,
            ]
            self._reserving = True
            self._worker.submit(steps, partial(self._reserved, number), self._too_full)

    def delete(self, numbers: Sequence[int]) -> None:
        """Delete segment files that nothing needs any more."""
        steps: list[Step] = [partial(self._remove, number) for number in numbers]
        self._worker.submit([*steps, self.disk.sync_directory], _nothing_more)

    def _reserved(self, number: int) -> None:
        self._reserving = False
        # It may have been taken into use in the meantime; then its first group will ask for the next.
        self.spare_ready = self._known[-1].number < number

    def _too_full(self, error: BaseException) -> bool:
        self._reserving = False
        return isinstance(error, OSError) and error.errno in NO_SPACE

    def ensure(self, number: int) -> None:
        """Make the file of a segment, its blocks reserved, unless it is there. Blocks."""
        with self._lock:
            if number not in self._present:
                self.disk.create(segment_name(number), self._segment_bytes)
                self._present.add(number)

    def _remove(self, number: int) -> None:
        with self._lock:
            if number in self._present:
                self.disk.delete(segment_name(number))
                self._present.discard(number)


def _nothing_more() -> None:
    """A deleted segment was forgotten when its deletion was ordered."""
