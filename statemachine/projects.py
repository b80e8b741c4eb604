"""Projects: the name space every resource lives in. Interned to a number, so that keys stay short."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from statemachine import limits, names
from statemachine.keys import end_of, name, u32
from statemachine.outcome import Refused
from statemachine.records import Meta, Project
from statemachine.store import Overlay, Reader

DEFAULT_PROJECT = "default"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Project)


def find(reader: Reader, project_name: str) -> Project | None:
    """The project of that name."""
    number = reader.get(b"p" + name(project_name))
    return None if number is None else get(reader, int.from_bytes(number, "big"))


def get(reader: Reader, number: int) -> Project | None:
    """The project of that number."""
    data = reader.get(b"P" + u32(number))
    return None if data is None else _decoder.decode(data)


def put(state: Overlay, project: Project) -> None:
    """Write a project's record."""
    state.put(b"P" + u32(project.number), _encoder.encode(project))


def create(state: Overlay, meta: Meta, project_name: str, time_ms: int) -> Project:
    """Make a project. It takes no revision of its own: it comes with the command that first used it."""
    if wrong := names.check_id(project_name):
        raise Refused("invalid_request", f"project {wrong}")
    if meta.next_project > limits.PROJECTS_MAX:
        raise Refused("queue_full", f"there are {limits.PROJECTS_MAX} projects, the most there may be")
    project = Project(meta.next_project, project_name, time_ms, meta.revision, meta.revision)
    meta.next_project += 1
    state.put(b"p" + name(project_name), u32(project.number))
    put(state, project)
    return project


def scan(reader: Reader) -> Iterator[Project]:
    """All projects in the order of their creation."""
    for _, data in reader.scan(b"P", end_of(b"P")):
        yield _decoder.decode(data)
