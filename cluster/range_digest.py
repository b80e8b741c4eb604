"""The digest of a piece of the state: what nodes compare, piece by piece, to notice a byte that changed by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

FIRST_KEY = b"\x01"
"""Below it a state keeps where it stands, which is not part of what is agreed on."""

END_KEY = b"\xff"

_ITEMS_MAX = 1_000
_BYTES_MAX = 1 << 20
"""Of one piece: some milliseconds of work, off the core's thread."""


class RangeDigest(NamedTuple):
    """The digest of the items from the asked key on, and the key that the next piece begins at; `FIRST_KEY` after the
    last."""

    digest: bytes
    next_key: bytes


def digest_range(items: Iterable[tuple[bytes, bytes]]) -> RangeDigest:
    """Digest items in key order until the piece is full. Equal on two states if and only if the items are."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    for count, (key, value) in enumerate(items):
        if count == _ITEMS_MAX or size > _BYTES_MAX:
            return RangeDigest(digest.digest(), key)
        digest.update(len(key).to_bytes(4, "big"))
        digest.update(key)
        digest.update(len(value).to_bytes(4, "big"))
        digest.update(value)
        size += len(key) + len(value)
    return RangeDigest(digest.digest(), FIRST_KEY)
