"""What a command handler may see and do. Handlers REFUSE FIRST AND MUTATE LAST: after the first write none
may refuse."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from statemachine.changes import Change
from statemachine.entry import Frame
from statemachine.outcome import Refused
from statemachine.records import Meta, Project
from statemachine.store import Overlay

CLUSTER = 0
"""The project number under which counters of the whole cluster are kept (agents)."""


class Mark(NamedTuple):
    """How far a command had come (`Context.mark`)."""

    state: int
    changes: int
    meta: Meta
    counts: dict[int, dict[str, int]]


class Context:
    """One command being applied.

    `state` shows the state with everything this entry did so far. `time_ms` is the entry's time: the only
    clock there is. Everything done here vanishes when the handler raises.
    """

    __slots__ = ("changes", "counts", "frame", "meta", "project", "project_is_new", "state", "time_ms")

    def __init__(self, state: Overlay, meta: Meta, project: Project | None, frame: Frame, time_ms: int) -> None:
        self.state = state
        self.meta = meta
        self.project = project
        self.project_is_new = False
        self.frame = frame
        self.time_ms = time_ms
        self.changes: list[Change] = []
        self.counts: dict[int, dict[str, int]] = {}

    @property
    def project_no(self) -> int:
        """The number of the command's project. Only for commands that live in one."""
        if self.project is None:
            raise AssertionError(f"command {self.frame.number} lives in no project")
        return self.project.number

    def require_project(self) -> Project:
        """The command's project, or the refusal `unknown_project`."""
        if self.project is None:
            raise Refused("unknown_project", f"project {self.frame.project!r} does not exist; create it first")
        return self.project

    def take_revision(self) -> int:
        """The next revision: one per accepted command, or per accepted item of a plain batch."""
        self.meta.revision += 1
        return self.meta.revision

    def count(self, name: str, delta: int, *, project_no: int | None = None) -> None:
        """Add to a counter such as `tasks.pending`; counters are kept so that nothing has to be scanned."""
        counts = self.counts_of(self.project_no if project_no is None else project_no)
        counts[name] = counts.get(name, 0) + delta

    def counts_of(self, project_no: int) -> dict[str, int]:
        """What this command adds to the counters of a project, by name; to be added to."""
        counts = self.counts.get(project_no)
        if counts is None:
            counts = self.counts[project_no] = {}
        return counts

    def mark(self) -> Mark:
        """Where to go back to when a later part of the command is refused. The command's project is no part of it."""
        counts = {project_no: dict(counts) for project_no, counts in self.counts.items()}
        return Mark(self.state.mark(), len(self.changes), msgspec.structs.replace(self.meta), counts)

    def undo(self, mark: Mark) -> None:
        """Everything since the mark has not happened. Records that the caller holds are changed all the same."""
        self.state.undo(mark.state)
        del self.changes[mark.changes :]
        self.counts = mark.counts
        for name in mark.meta.__struct_fields__:
            setattr(self.meta, name, getattr(mark.meta, name))

    def change(
        self,
        revision: int,
        kind: str,
        resource: str,
        resource_id: str,
        *,
        topics: tuple[str, ...] = (),
        correlation_id: str | None = None,
        data: dict[str, Any] | None = None,
        project: str | None = None,
    ) -> None:
        """Report a change for watchers.

        `topics` are those it is found under beside the ones of its own resource; `data` small facts of the
        transition (old state, attempt): the resource itself is not copied, watchers get it as it is when they
        read.
        """
        name = self.frame.project if project is None else project
        self.changes.append(
            Change(
                revision,
                kind,
                name,
                resource,
                resource_id,
                self.frame.principal,
                correlation_id,
                topics,
                data,
            )
        )
