"""Typed, frozen views of replies that survive a newer server: unknown fields are ignored, all of it stays
in ``raw``.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from hive_client.wire import Reply

R = TypeVar("R", bound="Record")
_Convert = Callable[[Any], Any]


class _Unfit(Exception):  # noqa: N818 - never leaves this file
    """The value has another shape than the field; the field keeps its default, ``raw`` has the value."""


@dataclass(frozen=True, slots=True)
class ReplyInfo:
    """What the headers said: revision that the answer reflects, the node, whether a write was replayed."""

    status: int
    revision: int
    cluster_id: str
    node_id: str
    consistency: str
    lag_ms: int | None
    replayed: bool
    request_id: str

    @classmethod
    def from_reply(cls, reply: Reply) -> ReplyInfo:
        headers = reply.headers
        lag = headers.get("Hive-Lag-Ms", "")
        return cls(
            status=reply.status,
            revision=reply.revision,
            cluster_id=headers.get("Hive-Cluster", ""),
            node_id=headers.get("Hive-Node", ""),
            consistency=headers.get("Hive-Consistency", ""),
            lag_ms=int(lag) if lag.isdecimal() else None,
            replayed=headers.get("Idempotency-Replayed", "") == "true",
            request_id=headers.get("Hive-Request-Id", ""),
        )


@dataclass(frozen=True, kw_only=True)
class Record:
    """A reply, or a part of one. ``raw`` is what the server sent; ``reply`` is set on the outermost record only."""

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    reply: ReplyInfo | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_json(cls, document: Any, reply: ReplyInfo | None = None) -> Self:
        """Tolerant: what is missing or of another shape gets the field's default."""
        raw: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
        values: dict[str, Any] = {}
        for name, convert in _converters(cls).items():
            if name in raw:
                try:
                    values[name] = convert(raw[name])
                except _Unfit:
                    continue
        return cls(raw=raw, reply=reply, **values)

    @classmethod
    def from_reply(cls, reply: Reply) -> Self:
        return cls.from_json(reply.document(), ReplyInfo.from_reply(reply))


@dataclass(frozen=True)
class Page(Generic[R]):
    """Part of a list. Only ``next_cursor is None`` is the end. To follow changes from here: watch ``revision + 1``."""

    items: list[R]
    next_cursor: str | None
    revision: int
    reply: ReplyInfo

    @classmethod
    def from_reply(cls, reply: Reply, item: type[R]) -> Page[R]:
        document = reply.document()
        raw: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
        items, cursor = raw.get("items"), raw.get("next_cursor")
        return cls(
            items=[item.from_json(entry) for entry in items] if isinstance(items, list) else [],
            next_cursor=cursor if isinstance(cursor, str) else None,
            revision=reply.revision,
            reply=ReplyInfo.from_reply(reply),
        )


_CONVERTERS: dict[type[Record], Mapping[str, _Convert]] = {}


def _converters(cls: type[Record]) -> Mapping[str, _Convert]:
    known = _CONVERTERS.get(cls)
    if known is None:
        hints = typing.get_type_hints(cls)
        names = [f.name for f in dataclasses.fields(cls) if f.name not in {"raw", "reply"}]
        known = _CONVERTERS[cls] = {name: _converter(hints[name]) for name in names}
    return known


def _converter(hint: Any) -> _Convert:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin is types.UnionType or origin is typing.Union:
        inner = _converter(next(a for a in arguments if a is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin in {list, Sequence}:
        return _list_of(_converter(arguments[0]))
    if origin in {dict, Mapping}:
        return _mapping_of(_converter(arguments[1]))
    if hint is datetime:
        return _time
    if hint is float:
        return _float
    if isinstance(hint, type) and issubclass(hint, Record):
        return _record_of(hint)
    return _exactly(hint)


def _record_of(cls: type[Record]) -> _Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _Unfit
        return cls.from_json(value)

    return convert


def _list_of(convert: _Convert) -> _Convert:
    def convert_list(value: Any) -> Any:
        if not isinstance(value, list):
            raise _Unfit
        return [convert(item) for item in value]

    return convert_list


def _mapping_of(convert: _Convert) -> _Convert:
    def convert_mapping(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _Unfit
        return {str(key): convert(item) for key, item in value.items()}

    return convert_mapping


def _exactly(cls: type) -> _Convert:
    def convert(value: Any) -> Any:
        # bool is an int to Python; it is not one to JSON.
        if not isinstance(value, cls) or (cls is int and isinstance(value, bool)):
            raise _Unfit
        return value

    return convert


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unfit
    return float(value)


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _Unfit from None
