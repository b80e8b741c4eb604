"""The shape of every message between members. Checked on arrival, so that a malformed one costs its sender the
connection and never reaches the engine half understood."""

from __future__ import annotations

from typing import Any

Message = dict[str, Any]

PROTOCOL_VERSION = 1

_INT = (int,)
_INT_OR_NONE = (int, type(None))
_BYTES = (bytes,)
_BOOL = (bool,)
_BOOL_OR_NONE = (bool, type(None))

FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "append_entries": {"term": _INT, "commit_index": _INT},
    "next_node_idx": {"term": _INT, "next_node_idx": _INT, "reset": _BOOL, "success": _BOOL, "n": _INT_OR_NONE},
    "request_vote": {"term": _INT, "last_log_index": _INT, "last_log_term": _INT},
    "response_vote": {"term": _INT},
    "timeout_now": {"term": _INT},
    "newer_term": {"term": _INT},
    "pre_vote": {
        "round": _INT,
        "term": _INT,
        "last_index": _INT,
        "last_term": _INT,
        "commit": _INT,
        "commit_term": _INT_OR_NONE,
    },
    "pre_vote_reply": {"round": _INT, "term": _INT, "granted": _BOOL, "commit": _INT, "commit_term": _INT_OR_NONE},
    "ping": {"n": _INT, "term": _INT, "commit": _INT_OR_NONE, "age_ms": _INT_OR_NONE, "read_only": _BOOL_OR_NONE},
    "pong": {"n": _INT, "term": _INT, "wall_ms": _INT, "free_bytes": _INT_OR_NONE},
    "propose": {"term": _INT, "low": _INT, "batch": _BYTES},
    "refused": {"sequence": _INT, "term": _INT, "code": (str,)},
    "read_index": {"number": _INT},
    "read_index_reply": {"number": _INT, "index": _INT_OR_NONE},
    "snapshot_offer": {"term": _INT, "manifest": _BYTES},
    "installed": {"index": _INT},
    "image_pull": {"index": _INT, "offset": _INT},
    "image_chunk": {"index": _INT, "offset": _INT, "data": _BYTES},
    "image_gone": {"index": _INT},
    "image_damaged": {"index": _INT},
    "state_check": {"n": _INT, "term": _INT, "index": _INT, "entry_term": _INT, "start": _BYTES},
    "state_digest": {"n": _INT, "term": _INT, "index": _INT, "digest": _BYTES, "compared": _BOOL_OR_NONE},
    "state_differs": {"n": _INT, "term": _INT, "index": _INT, "digest": _BYTES},
    "rebuild_wanted": {"n": _INT},
    "rebuild_goal": {"n": _INT, "term": _INT, "index": _INT},
    "rebuilt": {},
    "removed": {},
    "call": {"number": _INT, "service": (str,), "request": _BYTES},
    "reply": {"number": _INT, "reply": (bytes, type(None)), "error": (str, type(None))},
}


class ProtocolViolationError(Exception):
    """A peer sent what no correct peer sends: its connection is cut."""


def check_message(message: Message) -> None:
    """Raise ProtocolViolationError unless the message has a known type and that type's fields."""
    kind = message.get("type") if type(message) is dict else None
    fields = FIELDS.get(kind) if type(kind) is str else None
    if fields is None:
        raise ProtocolViolationError(f"message of type {kind!r:.60}")
    for name, types in fields.items():
        if type(message.get(name)) not in types:
            raise ProtocolViolationError(f"{message['type']}: field {name} is {message.get(name)!r:.60}")
    if "entries" in message or "prevLogIdx" in message:
        _check_entries(message)


def _check_entries(message: Message) -> None:
    if type(message.get("prevLogIdx")) is not int or type(message.get("prevLogTerm")) is not int:
        raise ProtocolViolationError("append_entries without the place they attach to")
    if type(message.get("entries")) is not list:
        raise ProtocolViolationError("append_entries without a list of entries")
    expected = message["prevLogIdx"] + 1
    for entry in message["entries"]:
        if type(entry) is not list or [type(part) for part in entry] != [bytes, int, int] or entry[1] != expected:
            raise ProtocolViolationError("append_entries whose entries do not follow each other")
        # H12: the engine would unpickle the entries of its other types.
        if entry[0][:1] not in (b"\x00", b"\x01", b"\x10"):
            raise ProtocolViolationError("log entry of a forbidden type")
        expected += 1
