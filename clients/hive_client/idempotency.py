"""Idempotency keys and instance ids: UUIDv7, so that the server can see how old a key is."""

from __future__ import annotations

import secrets
import time
import uuid


def uuid7(now_ms: int | None = None) -> str:
    """A fresh UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, 74 bits of randomness."""
    stamp = int(time.time() * 1000) if now_ms is None else now_ms
    value = (stamp & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
