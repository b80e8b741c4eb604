"""Ids that a node makes before it proposes: UUIDv7 (RFC 9562), so that they sort by time and are never met twice."""

from __future__ import annotations

import os
import random
import re
import time
from typing import Annotated

import msgspec

from node.api.problem import invalid
from statemachine import names

Id = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=128,
        pattern=r"^(?!\.{1,2}$)[A-Za-z0-9._:-]+\Z",
        description="1 to 128 of A-Z a-z 0-9 . _ : -, not . or .., not a verb of the API",
    ),
]
"""An id in a body or query. Verbs are refused by `check`, which every handler that takes a new id calls."""

_random = random.Random(os.urandom(32))
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def new_id() -> str:
    """A UUIDv7. Its time is this machine's and only sorts; nothing is decided by it."""
    number = time.time_ns() // 1_000_000 << 80 | 0x7 << 76 | _random.getrandbits(76) & ~(0b11 << 62) | 0b10 << 62
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid7_ms(text: str) -> int:
    """The Unix milliseconds inside a UUIDv7; 0 for anything else."""
    if len(text) != 36 or _UUID7.fullmatch(text) is None:
        return 0
    return int(text[:8] + text[9:13], 16)


def check(path: str, text: str) -> str:
    """The id, or 400 naming the field."""
    if wrong := names.check_id(text):
        raise invalid(path, wrong)
    return text
