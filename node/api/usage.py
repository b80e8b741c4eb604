"""Tokens and money, and artifacts: the shapes that sessions and tasks share."""

from __future__ import annotations

from typing import Annotated

import msgspec

from node.api.body import Body, Count
from node.api.query import Text
from node.api.reply import encode
from statemachine import limits

MICRO = 1_000_000
ARTIFACTS_MAX = 256

Tokens = Annotated[int, msgspec.Meta(ge=0, le=limits.USAGE_MAX)]
Cost = Annotated[float, msgspec.Meta(ge=0, le=limits.USAGE_MAX / MICRO)]


class Usage(Body):
    """What an attempt or event used: outside US dollars, inside micro-dollars."""

    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cost_usd: Cost = 0


class Artifact(Body):
    """Something large that lies elsewhere: a blob by its SHA-256."""

    name: Text
    blob: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None
    bytes: Count | None = None
    content_type: Annotated[str, msgspec.Meta(max_length=limits.LABEL_BYTES_MAX)] | None = None


Artifacts = Annotated[list[Artifact], msgspec.Meta(max_length=ARTIFACTS_MAX)]


def usage_inside(usage: Usage | None) -> tuple[int, int, int] | None:
    """As commands carry it."""
    return None if usage is None else (usage.input_tokens, usage.output_tokens, round(usage.cost_usd * MICRO))


def usage_outside(usage: tuple[int, int, int] | None) -> Usage | None:
    """As replies show it."""
    return None if usage is None else Usage(usage[0], usage[1], dollars(usage[2]))


def dollars(micro: int) -> float:
    """Micro-dollars as dollars."""
    return micro / MICRO


def artifacts_inside(artifacts: list[Artifact] | None) -> bytes | None:
    """As commands carry them: JSON."""
    return encode(artifacts) if artifacts else None
