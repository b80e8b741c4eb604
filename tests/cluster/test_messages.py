"""Malformed messages are found before anything acts on them."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.messages import FIELDS, ProtocolViolationError, check_message

_EXAMPLES: dict[type, Any] = {int: 1, bytes: b"x", bool: True, str: "x", type(None): None}


def _good(kind: str) -> dict[str, Any]:
    return {"type": kind} | {name: _EXAMPLES[types[0]] for name, types in FIELDS[kind].items()}


def _append(*entries: Any, **fields: Any) -> dict[str, Any]:
    return _good("append_entries") | {"prevLogIdx": 4, "prevLogTerm": 1, "entries": list(entries)} | fields


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_good_messages_pass(kind: str) -> None:
    check_message(_good(kind))


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in sorted(FIELDS) for field in FIELDS[kind]])
def test_every_field_is_required_and_typed(kind: str, field: str) -> None:
    message = _good(kind)
    wrongs: tuple[Any, ...] = ([], 1.5, {"a": 1})
    for wrong in wrongs:
        with pytest.raises(ProtocolViolationError, match=field):
            check_message(message | {field: wrong})
    if type(None) not in FIELDS[kind][field]:
        del message[field]
        with pytest.raises(ProtocolViolationError, match=field):
            check_message(message)


def test_a_truth_value_is_no_number() -> None:
    with pytest.raises(ProtocolViolationError, match="term"):
        check_message({"type": "newer_term", "term": True})


@pytest.mark.parametrize(
    "message", [{}, {"type": None}, {"type": "apply_command"}, {"type": ["ping"]}, {"type": "add"}, [], 7]
)
def test_unknown_types_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolationError):
        check_message(message)


def test_entries_that_follow_each_other_pass() -> None:
    check_message(_append([b"\x00a", 5, 1], [b"\x01", 6, 2]))


@pytest.mark.parametrize(
    "message",
    [
        _append([b"\x00a", 6, 1]),
        _append([b"\x00a", 5, 1], [b"\x00b", 5, 1]),
        _append([b"\x00a", 5]),
        _append(["a", 5, 1]),
        _append([b"\x00a", 5, "1"]),
        _append([b"", 5, 1]),
        _append(5),
        _append(prevLogIdx=None),
        _append(prevLogTerm="1"),
        _good("append_entries") | {"prevLogIdx": 4, "prevLogTerm": 1},
        _append((b"\x00a", 5, 1)),
        _append() | {"entries": 7},
    ],
)
def test_entries_that_do_not_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolationError):
        check_message(message)


@pytest.mark.parametrize("number", range(2, 8))
def test_entries_the_engine_would_unpickle_are_refused(number: int) -> None:
    """H12: types 0 and 1 are the only ones that are not executed."""
    with pytest.raises(ProtocolViolationError, match="forbidden"):
        check_message(_append([bytes([number]) + b"x", 5, 1]))
