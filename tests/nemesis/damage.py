"""Bytes of a stopped node's files that go bad."""

from __future__ import annotations

import random
from pathlib import Path

from tests.process.log_files import flip_bit, newest_segment

_STATE_FLIPS = 8


def damage_log(data_dir: Path, rng: random.Random) -> str:
    """A bit in the middle of what was durable in the newest segment; what was damaged, "" if there was nothing."""
    segment = newest_segment(data_dir)
    inner = segment.groups[1:-2]
    if not inner:
        return ""
    position = rng.choice(inner) + 40
    flip_bit(segment.path, position)
    return f"{segment.path.name} at {position}"


def damage_snapshot(data_dir: Path, rng: random.Random) -> str:
    """A bit in every snapshot, and the state is taken away, so that it is needed."""
    images = [path for path in sorted((data_dir / "snapshots").rglob("*")) if path.is_file() and path.stat().st_size]
    for path in images:
        flip_bit(path, rng.randrange(path.stat().st_size))
    if images:
        for path in (data_dir / "state").glob("gen-*/*"):
            path.unlink()
    return ", ".join(path.name for path in images)


def damage_state(data_dir: Path, rng: random.Random) -> str:
    """Bits in pages of the state that hold something."""
    path = max((data_dir / "state").rglob("data.mdb"), key=lambda found: found.stat().st_mtime)
    data = path.read_bytes()
    places = [place for place in range(0, len(data), 512) if any(data[place : place + 64])]
    flipped = sorted(rng.choice(places) + rng.randrange(64) for _ in range(_STATE_FLIPS)) if places else []
    for position in flipped:
        flip_bit(path, position)
    return f"{path.parent.name} at {flipped}" if flipped else ""
