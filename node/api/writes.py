"""Writes: a typed command becomes a frame of the log, its outcome a reply; keys, fences and replays handled once."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from cluster.replica import View
from node.api.ids import uuid7_ms
from node.api.problem import Problem, from_refusal, invalid
from node.api.reply import Reply, json_reply
from node.api.request import Request
from statemachine import commands, limits, names
from statemachine.commands import Command
from statemachine.entry import FLAG_CREATE_PROJECT, Fence, Frame, Idempotency, encode_frame
from statemachine.outcome import Item, Outcome

KEY_CHARACTERS_MAX = 128
_FENCES = frozenset({"task", "agent", "lock"})
_FENCE_NUMBER_MAX = (1 << 63) - 1
REPLAYED = ("Idempotency-Replayed", "true")


class Resource(Protocol):
    """The body of a reply to a write: a record that shows its revision."""

    revision: int


Render = Callable[[View, Item], Resource | None]
"""Reads the written resource as it is now; None when it is gone."""


async def propose(request: Request[Any, Any], *written: Command, first_position: int = 0) -> list[Outcome]:
    """Have the commands committed, together and in order: one outcome each, refused or not.

    Commands of one request have places of their own under its Idempotency-Key, from `first_position` on. The reply
    reflects the last one's revision. Raises Problem for bad headers, and the replica's errors.
    """
    frames = [_frame(request, command, position) for position, command in enumerate(written, first_position)]
    outcomes = await request.api.replica.propose(frames, request.seconds_left())
    request.consistency = "linearizable"
    request.revision = max(outcome.revision for outcome in outcomes)
    return outcomes


async def decide(request: Request[Any, Any], command: Command) -> Outcome:
    """As `propose` for one command, with a refusal of the whole as Problem."""
    outcome = (await propose(request, command))[0]
    if outcome.refusal is not None:
        raise refusal_of(outcome)
    return outcome


async def write(request: Request[Any, Any], command: Command, render: Render, location: str | None = None) -> Reply:
    """A write of one resource: its status, `Location` for a new one (`location` ends in a slash), and the resource.

    A replay has status, id and revision of the first answer, other fields as they are now.
    """
    outcome = await decide(request, command)
    item = outcome.items[0]
    if item.refusal is not None:
        raise refused_item(outcome, item)
    with request.view() as view:
        body = render(view, item)
    headers = replay_headers(outcome)
    if location is not None and item.status == 201:
        headers = (*headers, ("Location", location + item.resource_id))
    if body is None:
        return json_reply(gone(item), item.status, headers)
    if outcome.replayed:
        body.revision = item.revision
    return json_reply(body, item.status, headers)


def gone(item: Item) -> dict[str, Any]:
    """What is left to say of a resource that is not there any more: to a repeat, or to who deleted it."""
    return {"id": item.resource_id, "revision": item.revision, "deleted": True}


def replay_headers(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    """What a repeat says beside the first answer."""
    return (REPLAYED,) if outcome.replayed else ()


def refusal_of(outcome: Outcome) -> Problem:
    """The refusal of a whole command as Problem."""
    if outcome.refusal is None:
        raise AssertionError("this outcome is no refusal")
    error = from_refusal(outcome.refusal, outcome.revision)
    error.headers = replay_headers(outcome)
    return error


def refused_item(outcome: Outcome, item: Item) -> Problem:
    """The refusal of one item as Problem."""
    if item.refusal is None:
        raise AssertionError("this item is no refusal")
    error = from_refusal(item.refusal, outcome.revision)
    error.headers = replay_headers(outcome)
    return error


def _frame(request: Request[Any, Any], command: Command, position: int) -> bytes:
    headers = request.http.headers
    key = headers.get("idempotency-key")
    fence = headers.get("hive-fence")
    return encode_frame(
        Frame(
            commands.NUMBERS[type(command)],
            1,
            request.project,
            request.principal,
            request.request_id,
            None if key is None else idempotency_of(request, key, headers.get("idempotency-ttl-ms"), position),
            None if fence is None else fence_of(fence),
            0,
            FLAG_CREATE_PROJECT if request.api.auto_create_projects else 0,
            msgspec.Raw(commands.encode(command)),
        )
    )


def idempotency_of(request: Request[Any, Any], header: str, ttl: str | None, position: int = 0) -> Idempotency:
    """What the log remembers of an Idempotency-Key; `position` tells apart the commands of one request."""
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX or not key.isprintable():
        raise invalid("Idempotency-Key", f"must be 1 to {KEY_CHARACTERS_MAX} printable characters")
    scope = f"{request.principal}\0{request.project}\0{position}\0{key}"
    digest = blake2b(f"{request.method}\0{request.path}\0{request.query_string}\0".encode(), digest_size=16)
    digest.update(request.raw)
    return Idempotency(blake2b(scope.encode(), digest_size=16).digest(), digest.digest(), uuid7_ms(key), _ttl_ms(ttl))


def _ttl_ms(header: str | None) -> int:
    if header is None:
        return limits.IDEMPOTENCY_TTL_MS
    text = header.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) > 0):
        raise invalid("Idempotency-Ttl-Ms", "must be a number of milliseconds above 0")
    return min(int(text), limits.IDEMPOTENCY_TTL_MS)


def fence_of(header: str) -> Fence:
    """`task/<id>/<attempt>`, `agent/<id>/<epoch>` or `lock/<id>/<token>`."""
    parts = header.strip().split("/")
    if len(parts) != 3 or parts[0] not in _FENCES:
        raise invalid("Hive-Fence", "must be task/<id>/<attempt>, agent/<id>/<epoch> or lock/<id>/<token>")
    kind, resource_id, text = parts
    if wrong := names.check_id(resource_id):
        raise invalid("Hive-Fence", f"its id {wrong}")
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= _FENCE_NUMBER_MAX):
        raise invalid("Hive-Fence", "must end in a whole number")
    return Fence(kind, resource_id, int(text))
