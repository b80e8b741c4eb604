"""What crashes and bad disks do to the files of a node's log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.journal.records import ENTRY, GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES, parse_group, salt_of


@dataclass(frozen=True, slots=True)
class Written:
    """A segment with something in it: where its groups begin, which of them was the last with an entry, and where the
    last one ends."""

    path: Path
    groups: list[int]
    last_entry: int
    end: int


def newest_segment(data_dir: Path) -> Written:
    """The last segment that holds groups; behind it is only the reserved one."""
    salt = salt_of(bytes.fromhex(json.loads((data_dir / "node.json").read_bytes())["journal_id"]))
    for path in sorted((data_dir / "log").glob("*.seg"), reverse=True):
        data = path.read_bytes()
        groups = []
        last_entry = position = SEGMENT_HEADER_BYTES
        while (group := parse_group(data, position, len(data), salt)) is not None:
            groups.append(position)
            places, end = group
            if any(kind == ENTRY for kind, _, _ in places):
                last_entry = position
            position = end
        if groups:
            return Written(path, groups, last_entry, position)
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


def tear_last_entry(data_dir: Path) -> None:
    """As if the last write with an entry had half reached the disk, and nothing after it."""
    segment = newest_segment(data_dir)
    from_here = segment.last_entry + GROUP_HEADER_BYTES + 1
    overwrite(segment.path, from_here, bytes(segment.end - from_here))
