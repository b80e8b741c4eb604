"""What a command handler may see and do. Handlers REFUSE FIRST AND MUTATE LAST: after the first write none
may refuse."""

from __future__ import annotations

from typing import Any

from statemachine.changes import Change
from statemachine.entry import Frame
from statemachine.outcome import Refused
from statemachine.records import Meta, Project
from statemachine.store import Overlay

CLUSTER = 0
"""The project number under which counters of the whole cluster are kept (agents)."""


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
        self.counts: dict[tuple[int, str], int] = {}

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
        key = (self.project_no if project_no is None else project_no, name)
        self.counts[key] = self.counts.get(key, 0) + delta

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
