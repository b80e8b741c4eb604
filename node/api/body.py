"""Bodies: JSON to typed values, once, with the path of what is wrong. User objects stay the bytes the user sent."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any

import msgspec

from node.api.problem import FieldError, Problem, invalid, too_large
from node.api.times import TimeMs, parse

OpenObject = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": ["object", "null"]})]
"""An object that takes anything. Absent: empty bytes. `open_object` checks it."""

Anything = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"description": "any JSON value"})]
"""Any JSON value. Absent: empty bytes. `anything` checks its size."""

INT_MAX = (1 << 53) - 1
"""Numbers above lose digits in clients whose numbers are doubles."""

Count = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]
"""A number that counts something: 0 to 2^53-1."""

_LOCATED = re.compile(r" - at `\$?\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`$", re.DOTALL)


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """What request bodies inherit from: unknown fields are refused."""


class NoBody(Body):
    """A request without fields: nothing, or `{}`."""


def absent() -> Any:
    """The default of an open object that was not sent."""
    return msgspec.field(default_factory=msgspec.Raw)


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def hook(kind: type[Any], value: Any) -> Any:
    """How types of ours are read from JSON and query strings."""
    if kind is TimeMs:
        return parse(value)
    raise NotImplementedError(f"{kind.__name__} is no type of a request")


class Parser:
    """Parses bodies of one type. `lenient` ignores unknown fields and names them."""

    def __init__(self, kind: type[msgspec.Struct], *, lenient: bool = False) -> None:
        self.kind = kind
        self._decoder = msgspec.json.Decoder(kind, dec_hook=hook)
        self._lenient: msgspec.json.Decoder[Any] | None = None
        if lenient:
            self._lenient = msgspec.json.Decoder(lenient_twin(kind), dec_hook=hook)

    def parse(self, raw: bytes) -> tuple[Any, list[str]]:
        """(value, paths of ignored fields). Raises Problem `invalid_request`."""
        if not raw:
            raw = b"{}"
        elif not raw.isascii():
            check_utf8(raw)
        try:
            return self._decoder.decode(raw), []
        except msgspec.ValidationError as error:
            if self._lenient is None or "unknown field" not in str(error):
                raise from_validation(error) from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise from_malformed(error) from None
        try:
            return self._lenient.decode(raw), list(unknown_paths(msgspec.json.decode(raw), self.kind, ""))
        except msgspec.ValidationError as error:
            raise from_validation(error) from None


def check_utf8(raw: bytes) -> None:
    """Refuse bytes that are not UTF-8: those inside open objects are not looked at by the decoder."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise from_malformed(error) from None


def from_malformed(error: Exception) -> Problem:
    """400 for what is no JSON."""
    if isinstance(error, RecursionError):
        return Problem("invalid_request", "the JSON is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Problem("invalid_request", f"the body is not UTF-8: {error.reason} (byte {error.start})")
    return Problem("invalid_request", f"the body is not JSON: {error}")


def from_validation(error: msgspec.ValidationError) -> Problem:
    """400 for JSON that does not fit the type, with the path of the field."""
    text = str(error)
    path = ""
    if located := _LOCATED.search(text):
        path, text = located["path"], text[: located.start()]
    if unknown := _UNKNOWN.match(text):
        path, text = _join(path, unknown["field"]), "unknown field"
    elif missing := _MISSING.match(text):
        path, text = _join(path, missing["field"]), "required field is missing"
    detail = f"{path}: {text}" if path else text
    return Problem("invalid_request", detail, errors=(FieldError(path, text),))


def _join(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def anything(raw: msgspec.Raw, path: str, limit_name: str, limit_bytes: int) -> bytes | None:
    """The bytes of any JSON value within its limit; None when it was not sent or is null."""
    data = bytes(raw)
    if not data or data == b"null":
        return None
    if len(data) > limit_bytes:
        raise too_large(limit_name, limit_bytes, path)
    return data


def open_object(raw: msgspec.Raw, path: str, limit_name: str, limit_bytes: int) -> bytes | None:
    """As `anything`, for what must be an object."""
    data = anything(raw, path, limit_name, limit_bytes)
    if data is not None and data[:1] != b"{":
        raise invalid(path, "Expected `object`")
    return data


def merge_patch(old: bytes | None, patch: bytes) -> bytes | None:
    """The merge patch (RFC 7396) of one object on another; bytes of both and of the result."""
    try:
        return msgspec.json.encode(_merged(b"{}" if old is None else old, patch))
    except RecursionError as error:
        raise from_malformed(error) from None


def _merged(target: bytes, patch: bytes) -> msgspec.Raw | dict[str, Any]:
    """Only objects are taken apart: numbers stay as they were sent, also those that no reader takes (1e999)."""
    if patch[:1] != b"{":
        return msgspec.Raw(patch)
    merged: dict[str, Any] = dict(_members.decode(target)) if target[:1] == b"{" else {}
    for name, value in _members.decode(patch).items():
        if bytes(value) == b"null":
            merged.pop(name, None)
        else:
            merged[name] = _merged(bytes(merged.get(name, b"")), bytes(value))
    return merged


# --- lenient parsing --------------------------------------------------------------------------------------------------


@cache
def lenient_twin(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A subclass of `kind` that ignores unknown fields, all the way down."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: list[Any] = [
        (field.name, twin, _default_of(field))
        for field in msgspec.structs.fields(kind)
        if (twin := _lenient_type(hints[field.name])) is not hints[field.name]
    ]
    return msgspec.defstruct(
        kind.__name__, fields, bases=(kind,), module=kind.__module__, forbid_unknown_fields=False, kw_only=True
    )


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    if field.required:
        return msgspec.field(name=field.encode_name)
    if field.default is not msgspec.NODEFAULT:
        return msgspec.field(default=field.default, name=field.encode_name)
    return msgspec.field(default_factory=field.default_factory, name=field.encode_name)


def _lenient_type(hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return lenient_twin(hint)
    arguments = typing.get_args(hint)
    twins = tuple(_lenient_type(argument) for argument in arguments)
    if all(twin is argument for twin, argument in zip(twins, arguments, strict=True)):
        return hint
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[twins]  # noqa: UP007 - built from a tuple at run time
    if origin is Annotated:
        return Annotated[(twins[0], *hint.__metadata__)]
    return origin[twins]


def unknown_paths(value: Any, hint: Any, path: str) -> Iterator[str]:
    """The paths in plain JSON `value` of fields that type `hint` does not have."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        if not isinstance(value, dict):
            return
        hints = typing.get_type_hints(hint, include_extras=True)
        known = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(hint)}
        for name, item in value.items():
            if name in known:
                yield from unknown_paths(item, known[name], _join(path, name))
            else:
                yield _join(path, name)
        return
    for argument in typing.get_args(hint):
        if isinstance(value, list) and typing.get_origin(hint) in (list, tuple):
            for position, item in enumerate(value):
                yield from unknown_paths(item, argument, f"{path}[{position}]")
        else:
            yield from unknown_paths(value, argument, path)
