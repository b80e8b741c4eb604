"""apply: (state, entry) -> (writes, outcomes, changes). Pure, total, bounded: the only way the state
changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from statemachine import (
    agents,
    budgets,
    changes,
    commands,
    counters,
    events,
    fences,
    idempotency,
    limits,
    members,
    projects,
    queues,
    schedules,
    session_removal,
    sessions,
    settings,
    tasks,
    work,
)
from statemachine.changes import Change
from statemachine.commands import PROJECT_CREATING, Command, CreateProject
from statemachine.context import Context
from statemachine.entry import FLAG_CREATE_PROJECT, STATE_VERSION, Batch, Frame, Header
from statemachine.keys import META
from statemachine.outcome import Item, Outcome, Refusal, Refused, accepted, refused
from statemachine.records import Meta, Project
from statemachine.store import Overlay, Reader

Handler = Callable[[Context, Any], Outcome]


class UnknownCommandError(Exception):
    """This node is older than the entry: it must stop, and be upgraded. Skipping would make it differ."""


class StateUnusableError(Exception):
    """Raised by stores: the state cannot be read. Never an answer to a command: the node stops."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an entry does. `writes` in key order; `outcomes` per batch, per frame; changes in revision order.

    `internal_errors` tells of commands that met a defect, for the log of the node: it is no part of the
    state.
    """

    writes: list[tuple[bytes, bytes | None]]
    outcomes: list[tuple[Outcome, ...]]
    changes: tuple[Change, ...]
    first_revision: int
    revision: int
    time_ms: int
    internal_errors: tuple[str, ...]


_meta_encoder = msgspec.msgpack.Encoder()
_meta_decoder = msgspec.msgpack.Decoder(Meta)


def read_meta(reader: Reader) -> Meta:
    """The state's meta record; that of the empty state before the first entry."""
    data = reader.get(META)
    return Meta() if data is None else _meta_decoder.decode(data)


def _create_project(ctx: Context, _: CreateProject) -> Outcome:
    project = ctx.require_project()
    if not ctx.project_is_new:
        return Outcome(ctx.meta.revision, (Item(200, project.name, project.revision),))
    return accepted(Item(201, project.name, ctx.take_revision()))


HANDLERS: dict[type[Command], Handler] = {
    CreateProject: _create_project,
    **sessions.HANDLERS,
    **session_removal.HANDLERS,
    **events.HANDLERS,
    **tasks.HANDLERS,
    **queues.HANDLERS,
    **agents.HANDLERS,
    **work.HANDLERS,
    **members.HANDLERS,
    **schedules.HANDLERS,
    **settings.HANDLERS,
    **budgets.HANDLERS,
}


def apply(reader: Reader, header: Header, batches: Sequence[Batch]) -> Applied:
    """Apply one entry to the state that `reader` shows.

    Total: a refusal, or a handler that raises, undoes exactly its own command. Raises UnknownCommandError for
    a command of a newer version, and lets errors of storage and memory through: both stop the node.
    """
    if header.state_version > STATE_VERSION:
        raise UnknownCommandError(
            f"entry of state version {header.state_version}; this node knows {STATE_VERSION}: upgrade it"
        )
    return _Entry(reader, header).run(batches)


def _announce_project(ctx: Context, revision_before: int) -> bool:
    """Give a new project the first revision of its command; False if that took none, and so made no
    project."""
    if ctx.project is None or ctx.meta.revision == revision_before:
        return False
    first_revision = revision_before + 1
    ctx.project.revision = ctx.project.created_revision = first_revision
    ctx.change(first_revision, "project.created", "project", ctx.project.name)
    ctx.changes.insert(0, ctx.changes.pop())
    return True


def _place_of(error: BaseException) -> str:
    """Where in the code an exception began."""
    place, trace = "?", error.__traceback__
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


class _Entry:
    """One entry being applied."""

    def __init__(self, reader: Reader, header: Header) -> None:
        self.state = Overlay(reader)
        self.meta = read_meta(reader)
        self.time_ms = max(header.time_ms, self.meta.time_ms)
        self.first_revision = self.meta.revision + 1
        self.tally = counters.Tally(self.state)
        self.changes: list[Change] = []
        self.feed: list[bytes] = []
        self.errors: list[str] = []
        self.projects: dict[str, Project] = {}

    def run(self, batches: Sequence[Batch]) -> Applied:
        self.meta.time_ms = self.time_ms
        if self.meta.next_project == 1:
            projects.create(self.state, self.meta, projects.DEFAULT_PROJECT, self.time_ms)
        outcomes = [tuple([self.command(frame) for frame in batch.frames]) for batch in batches]
        frame_count = sum(len(batch.frames) for batch in batches)
        for project in self.projects.values():
            self.keep_project(project, frame_count)
        self.tally.write(self.state)
        if self.meta.revision >= self.first_revision:
            changes.append(self.state, self.meta, self.first_revision, self.time_ms, self.feed, len(self.changes))
            changes.compact(self.state, self.meta, limits.CHANGES_KEPT_MAX)
        self.state.put(META, _meta_encoder.encode(self.meta))
        return Applied(
            self.state.writes(),
            outcomes,
            tuple(self.changes),
            self.first_revision,
            self.meta.revision,
            self.time_ms,
            tuple(self.errors),
        )

    def keep_project(self, project: Project, frame_count: int) -> None:
        count_max = limits.IDEMPOTENCY_PURGED_PER_COMMAND * frame_count
        if project.idempotency_records:
            idempotency.purge(self.state, project, self.time_ms, count_max)
        if project != projects.get(self.state, project.number):
            projects.put(self.state, project)

    def command(self, frame: Frame) -> Outcome:
        """One command: all of it, or none of it and why."""
        kind = commands.COMMANDS.get(frame.number)
        if kind is None or frame.version != commands.VERSION:
            raise UnknownCommandError(
                f"command {frame.number} version {frame.version} is unknown to this Hive: upgrade this node"
            )
        saved = msgspec.structs.replace(self.meta)
        self.state.begin()
        ctx = Context(self.state, self.meta, None, frame, self.time_ms)
        try:
            self.find_project(ctx, kind)
            outcome = self.decide(ctx, kind)
            if ctx.project_is_new and not _announce_project(ctx, saved.revision):
                self.undo(saved)
                return outcome
            feed = changes.encode(ctx.changes, saved.revision, ctx.meta.revision)
            self.tally.add(ctx.counts)
        except Refused as refusal:
            self.undo(saved)
            return self.refuse(frame, refused(saved.revision, refusal))
        except (MemoryError, OSError, StateUnusableError):
            raise
        except Exception as error:  # noqa: BLE001 - all nodes meet the same entry: stopping would stop the cluster
            self.undo(saved)
            self.meta.internal_errors += 1
            self.errors.append(f"{kind.__name__}: {type(error).__name__}: {error} ({_place_of(error)})")
            return Outcome(saved.revision, refusal=Refusal("internal", "this command met a defect; nothing changed"))
        self.changes.extend(ctx.changes)
        self.feed.append(feed)
        if ctx.project is not None:
            self.projects[ctx.project.name] = ctx.project
        return outcome

    def undo(self, meta: Meta) -> None:
        """The command has not happened. `meta` is as it was before."""
        self.state.undo()
        self.meta = meta

    def find_project(self, ctx: Context, kind: type[Command]) -> None:
        """Give the command a copy of its project, so that nothing has to be undone when it is refused."""
        name = ctx.frame.project
        if not name:
            return
        project = self.projects.get(name) or projects.find(self.state, name)
        if project is not None:
            ctx.project = msgspec.structs.replace(project)
            return
        if kind in PROJECT_CREATING and (kind is CreateProject or ctx.frame.flags & FLAG_CREATE_PROJECT):
            ctx.project = projects.create(ctx.state, ctx.meta, name, self.time_ms)
            ctx.project_is_new = True

    def decide(self, ctx: Context, kind: type[Command]) -> Outcome:
        frame, key = ctx.frame, ctx.frame.idempotency
        if key is not None:
            repeated = idempotency.check(ctx.state, ctx.require_project(), key, self.time_ms)
            if repeated is not None:
                return repeated
        if frame.fence is not None:
            fences.check(ctx.state, ctx.project, frame.fence)
        outcome = HANDLERS[kind](ctx, commands.decode(frame.number, frame.payload))
        if key is not None:
            idempotency.record(ctx.state, ctx.require_project(), key, self.time_ms, outcome)
        return outcome

    def refuse(self, frame: Frame, outcome: Outcome) -> Outcome:
        """Remember a refusal under its key, unless it is about the key itself or to be tried again."""
        refusal = outcome.refusal
        if frame.idempotency is None or refusal is None or refusal.code in idempotency.NOT_REMEMBERED:
            return outcome
        project = self.projects.get(frame.project) or projects.find(self.state, frame.project)
        if project is not None:
            idempotency.record(self.state, project, frame.idempotency, self.time_ms, outcome)
            self.projects[project.name] = project
        return outcome
