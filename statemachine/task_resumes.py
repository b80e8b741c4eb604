"""The answers to what a task waits for: those that came before their wait, and those the next attempts are given.

They stand beside the record (`task_record.BODIES`): a task that never waits has none, and a change of state does not
rewrite them.
"""

from __future__ import annotations

import msgspec

from statemachine import limits, task_record
from statemachine.commands import Json
from statemachine.store import Overlay, Reader
from statemachine.task_record import Task


class Resume(msgspec.Struct, array_like=True, frozen=True):
    """One answer. `kind` is that of the wait it ended, empty while it waits for its wait. `timed_out`: nobody gave it,
    the wait's time was over."""

    name: str
    data: Json | None
    actor: str | None
    at: int
    kind: str = ""
    timed_out: bool = False

    @property
    def used(self) -> bool:
        """Whether it ended a wait."""
        return bool(self.kind)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[Resume, ...])


def read(reader: Reader, task: Task) -> tuple[Resume, ...]:
    """All answers that are kept for a task, in the order in which they came, used ones in the order of their use."""
    data = task_record.json_body(reader, task, "resumes")
    return () if data is None else _decoder.decode(data)


def answers(reader: Reader, task: Task) -> tuple[Resume, ...]:
    """Those that ended a wait, the newest last: what a grant carries."""
    return tuple([resume for resume in read(reader, task) if resume.used])


def write(state: Overlay, task: Task, resumes: list[Resume]) -> None:
    """Keep these. Used ones make room for newer ones, oldest first; the newest stays in any case."""
    kept = resumes
    while len(kept) > 1 and not fits(kept):
        oldest = next((place for place, resume in enumerate(kept[:-1]) if resume.used), None)
        if oldest is None:
            break
        kept = [*kept[:oldest], *kept[oldest + 1 :]]
    task_record.set_body(state, task, "resumes", _encoder.encode(tuple(kept)) if kept else None)


def fits(resumes: list[Resume]) -> bool:
    """Whether so many may be kept for one task."""
    size = sum([len(resume.data or b"") for resume in resumes])
    return len(resumes) <= limits.RESUMES_KEPT_MAX and size <= limits.RESUMES_BYTES_MAX
