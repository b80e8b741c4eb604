"""Counts by project, kept so that no status page has to scan: `tasks.pending`, `sessions.active`,
`agents.online`.

Project number 0 (`context.CLUSTER`) holds what belongs to the whole cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from statemachine.keys import end_of, u32
from statemachine.store import Overlay, Reader

_TABLE = b"n"
_encoder = msgspec.msgpack.Encoder(order="sorted")
_decoder = msgspec.msgpack.Decoder(dict[str, int])


class Tally:
    """The counts while an entry is applied: checked command by command, written once, one put per project."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._read: dict[int, dict[str, int]] = {}
        self._changed: dict[int, object] = {}

    def add(self, deltas: dict[int, dict[str, int]]) -> None:
        """Add a command's deltas by project and name, all or none: a count below zero is a defect of that command
        (AssertionError)."""
        for project_no, by_name in deltas.items():
            counts = self._read.get(project_no)
            if counts is None:
                counts = self._read[project_no] = read(self._reader, project_no)
            for name, delta in by_name.items():
                counts[name] = count = counts.get(name, 0) + delta
                if count < 0:
                    self._take_back(deltas, project_no, name)
                    raise AssertionError(f"counter {name} of project {project_no} would go below zero")
        self._changed.update(deltas)

    def _take_back(self, deltas: dict[int, dict[str, int]], last_project_no: int, last_name: str) -> None:
        for project_no, by_name in deltas.items():
            for name, delta in by_name.items():
                self._read[project_no][name] -= delta
                if (project_no, name) == (last_project_no, last_name):
                    return

    def write(self, state: Overlay) -> None:
        """Keep what was counted. Zeros are not kept: names come and go with queues, the record must not only
        grow."""
        for project_no in self._changed:
            kept = {name: count for name, count in self._read[project_no].items() if count}
            state.put(_TABLE + u32(project_no), _encoder.encode(kept))


def read(reader: Reader, project_no: int) -> dict[str, int]:
    """The counts of one project (0: the cluster's own)."""
    data = reader.get(_TABLE + u32(project_no))
    return {} if data is None else _decoder.decode(data)


def total(reader: Reader) -> dict[str, int]:
    """The sums over all projects and the cluster."""
    sums: dict[str, int] = {}
    for _, counts in scan(reader):
        for name, count in counts.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def scan(reader: Reader) -> Iterator[tuple[int, dict[str, int]]]:
    """(project number, counts), ascending."""
    for key, data in reader.scan(_TABLE, end_of(_TABLE)):
        yield int.from_bytes(key[1:], "big"), _decoder.decode(data)
