"""What crashes and bad disks do to the files of a node's log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.journal.records import SEGMENT_HEADER_BYTES, parse_group, salt_of


@dataclass(frozen=True, slots=True)
class Written:
    """A segment with something in it: where its groups begin, and where the last one ends."""

    path: Path
    groups: list[int]
    end: int


def newest_segment(data_dir: Path) -> Written:
    """The last segment that holds groups; behind it is only the reserved one."""
    salt = salt_of(bytes.fromhex(json.loads((data_dir / "node.json").read_bytes())["journal_id"]))
    for path in sorted((data_dir / "log").glob("*.seg"), reverse=True):
        data = path.read_bytes()
        groups = []
        position = SEGMENT_HEADER_BYTES
        while (group := parse_group(data, position, len(data), salt)) is not None:
            groups.append(position)
            position = group[1]
        if groups:
            return Written(path, groups, position)
    raise AssertionError("the log holds nothing")


def overwrite(path: Path, position: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(data)


def flip_bit(path: Path, position: int) -> None:
    with path.open("rb") as file:
        file.seek(position)
        byte = file.read(1)[0]
    overwrite(path, position, bytes([byte ^ 1]))


def cut(path: Path, length: int) -> None:
    with path.open("r+b") as file:
        file.truncate(length)


def tear_last_group(data_dir: Path) -> None:
    """The last group as if only its first half had reached the disk."""
    segment = newest_segment(data_dir)
    half = (segment.groups[-1] + segment.end) // 2
    overwrite(segment.path, half, bytes(segment.end - half))
