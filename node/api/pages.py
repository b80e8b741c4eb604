"""Lists: pages in a stable order, and cursors that work on every node and after restarts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import msgspec

from node.api.problem import Problem, invalid
from node.api.query import ListQuery
from node.api.reply import GROUP, Reply, encode
from node.api.request import Request
from statemachine import limits

T = TypeVar("T")
ROWS_SCANNED_MAX = 5_000
"""Rows one page may look at: a filter that matches little ends a page early instead of holding the view for long."""

_NOT_FILTERS = frozenset(ListQuery.__struct_encode_fields__) - {"order"} | {"wait_ms", "live"}


class Page(msgspec.Struct, Generic[T]):
    """A page of a list. Only `next_cursor: null` is the end; a page may be shorter than `limit`."""

    items: list[T]
    next_cursor: str | None


class _Cursor(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: int
    group: int
    kind: str
    filters: bytes
    position: int
    name: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Cursor)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode_cursor(request: Request[Any, Any], kind: str, position: int, name: str = "") -> str:
    """A cursor behind `position` of the list `kind` under the filters of this request; in lists by name, behind
    `name`."""
    cursor = _Cursor(1, GROUP, kind, _filters_of(request), position, name)
    return base64.urlsafe_b64encode(_encoder.encode(cursor)).decode().rstrip("=")


def position_of(request: Request[Any, Any], kind: str) -> int | None:
    """Where the request's cursor goes on; None without one. Raises Problem `invalid_cursor`."""
    cursor = _cursor_of(request, kind)
    return None if cursor is None else cursor.position


def name_of(request: Request[Any, Any], kind: str) -> str | None:
    """As `position_of`, in lists by name."""
    cursor = _cursor_of(request, kind)
    return None if cursor is None else cursor.name


def _cursor_of(request: Request[Any, Any], kind: str) -> _Cursor | None:
    text: str | None = request.query.cursor
    if text is None:
        return None
    try:
        cursor = _decoder.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Problem("invalid_cursor", "this is no cursor of a list; begin again without one") from None
    if cursor.version != 1 or cursor.group != GROUP or cursor.kind != kind or cursor.position < 0:
        raise Problem("invalid_cursor", "this cursor belongs to another list; begin again without one")
    if cursor.filters != _filters_of(request):
        raise Problem("invalid_cursor", "this cursor belongs to other filters; repeat them, or begin again without one")
    return cursor


def _filters_of(request: Request[Any, Any]) -> bytes:
    """A digest of what decides which items a list has and in which order."""
    query = request.query
    names = query.__struct_fields__
    chosen = [(name, getattr(query, name)) for name in names if name not in _NOT_FILTERS]
    return blake2b(encode([request.project, chosen, request.parameters]), digest_size=8).digest()


class PageBuilder:
    """Collects the items of one page within its limits: count, bytes, rows looked at."""

    def __init__(self, request: Request[Any, Any], item_type: type[msgspec.Struct]) -> None:
        query: ListQuery = request.query
        self._limit = query.limit
        self._fields = _chosen_fields(query.fields, item_type)
        self._parts: list[bytes] = []
        self._bytes = 0
        self._rows = 0
        self.position: int | None = None

    @property
    def count(self) -> int:
        """How many items the page has."""
        return len(self._parts)

    def full(self) -> bool:
        """Whether no further row may be looked at."""
        return len(self._parts) >= self._limit or self._rows >= ROWS_SCANNED_MAX

    def take(self, position: int, item: Any) -> bool:
        """Add the row at `position` (None: a row that is not wanted); False when it belongs on the next page."""
        if item is not None:
            part = encode(item)
            if self._fields is not None:
                members = _fields_decoder.decode(part)
                part = encode({name: members[name] for name in self._fields if name in members})
            if self._parts and self._bytes + len(part) > limits.REPLY_BYTES_MAX:
                return False
            self._parts.append(part)
            self._bytes += len(part) + 1
        self._rows += 1
        self.position = position
        return True

    def reply(self, next_cursor: str | None, **further: Any) -> Reply:
        """The page as reply; `further` members stand beside `items` and `next_cursor`."""
        members = encode({"next_cursor": next_cursor, **further})
        return Reply(b'{"items":[' + b",".join(self._parts) + b"]," + members[1:])


def fill(builder: PageBuilder, rows: Iterator[tuple[int, T | None]], render: Callable[[T], msgspec.Struct]) -> bool:
    """Put rows on the page until it is full; True when there are none left behind it."""
    for position, row in rows:
        if builder.full():
            return False
        if not builder.take(position, None if row is None else render(row)):
            return False
    return True


def page(
    request: Request[Any, Any],
    kind: str,
    rows: Iterator[tuple[int, T | None]],
    render: Callable[[T], msgspec.Struct],
    item_type: type[msgspec.Struct],
) -> Reply:
    """A whole list reply: `rows` are (position, item or None when it is not wanted), already behind the cursor."""
    builder = PageBuilder(request, item_type)
    ended = fill(builder, rows, render)
    if ended or builder.position is None:
        return builder.reply(None)
    return builder.reply(encode_cursor(request, kind, builder.position))


def _chosen_fields(names: tuple[str, ...], item_type: type[msgspec.Struct]) -> tuple[str, ...] | None:
    if not names:
        return None
    for name in names:
        if name not in item_type.__struct_encode_fields__:
            raise invalid("fields", f"{name!r} is no field of these items")
    return tuple(dict.fromkeys(names))
