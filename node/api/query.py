"""Query strings: parsed into the typed record of the route; what the record does not have is refused by name."""

from __future__ import annotations

import typing
from typing import Annotated, Any, Literal
from urllib.parse import unquote_plus

import msgspec

from node.api.body import Count, from_validation, hook
from node.api.problem import Problem, invalid
from statemachine import limits

TIMEOUT_MS_DEFAULT = 5_000
TIMEOUT_MS_MAX = 60_000
WAIT_MS_MAX = 60_000
PARAMETERS_MAX = 100

TimeoutMs = Annotated[int, msgspec.Meta(ge=1, le=TIMEOUT_MS_MAX, description="how long the request may take")]
WaitMs = Annotated[int, msgspec.Meta(ge=0, le=WAIT_MS_MAX, description="how long to wait for something to report")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.LABEL_BYTES_MAX)]
REPEATED = msgspec.Meta(extra={"repeated": True})
"""Marks a tuple field whose values come by repeating the parameter, and may hold commas themselves."""


class Query(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every route takes."""

    project: Annotated[str, msgspec.Meta(description="as the header Hive-Project")] | None = None


class WriteQuery(Query, kw_only=True):
    """What every write takes."""

    timeout_ms: TimeoutMs = TIMEOUT_MS_DEFAULT


class BatchQuery(WriteQuery, kw_only=True):
    """What every batch takes: `return=full` adds the resources to the reply."""

    returned: Literal["minimal", "full"] = msgspec.field(default="minimal", name="return")


class ReadQuery(Query, kw_only=True):
    """How fresh the answer has to be (API.md, Reads)."""

    consistency: Literal["stale", "linearizable"] = "stale"
    min_revision: Annotated[Count, msgspec.Meta(description="wait until this revision is applied here")] | None = None
    max_lag_ms: Count | None = None
    timeout_ms: TimeoutMs = TIMEOUT_MS_DEFAULT


class ListQuery(ReadQuery, kw_only=True):
    """What every list takes: newest first, `fields` trims the items."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=limits.LIST_LIMIT_MAX)] = limits.LIST_LIMIT_DEFAULT
    order: Literal["asc", "desc"] = "desc"
    cursor: Annotated[str, msgspec.Meta(max_length=2_048)] | None = None
    fields: tuple[str, ...] = ()


class QueryParser:
    """Parses query strings of one type."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.kind = kind
        self._default = kind()
        hints = typing.get_type_hints(kind, include_extras=True)
        self._many: dict[str, bool] = {}
        for field in msgspec.structs.fields(kind):
            if _is_tuple(hints[field.name]):
                self._many[field.encode_name] = not _is_repeated(hints[field.name])

    def parse(self, text: str) -> Any:
        """The record. Raises Problem `invalid_request` naming the parameter."""
        if not text:
            return self._default
        try:
            return msgspec.convert(self._values(text), self.kind, strict=False, dec_hook=hook)
        except msgspec.ValidationError as error:
            raise _of_parameter(from_validation(error)) from None

    def _values(self, text: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        pairs = text.split("&")
        if len(pairs) > PARAMETERS_MAX:
            raise Problem("invalid_request", f"a query may have {PARAMETERS_MAX} parameters")
        for pair in pairs:
            if not pair:
                continue
            name, _, value = pair.partition("=")
            name, value = _decoded(name), _decoded(value)
            splits = self._many.get(name)
            if splits is not None:
                values.setdefault(name, []).extend(filter(None, value.split(",")) if splits else (value,))
            elif name in values:
                raise invalid(name, "given twice")
            else:
                values[name] = value
        return values


def _of_parameter(error: Problem) -> Problem:
    """The error under the parameter's own name: which of its values it was is said by the message."""
    path, message = error.errors[0]
    return invalid(path.partition("[")[0], message)


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise Problem("invalid_request", "the query is not percent-encoded UTF-8") from None


def _is_tuple(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        return _is_tuple(hint.__origin__)
    return typing.get_origin(hint) is tuple


def _is_repeated(hint: Any) -> bool:
    metas = getattr(hint, "__metadata__", ())
    return any((meta.extra or {}).get("repeated") for meta in metas if isinstance(meta, msgspec.Meta))
