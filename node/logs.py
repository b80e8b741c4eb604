"""Logs: one line a change of state on standard error, as key=value or JSON, through the standard library's logging."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from node.api.times import text

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-/+@[]")


def _members(record: logging.LogRecord) -> dict[str, Any]:
    members: dict[str, Any] = {
        "time": text(int(record.created * 1_000)),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    members.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
    return members


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        members = _members(record)
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return json.dumps(members, default=str)


class TextFormatter(logging.Formatter):
    """`time level logger message key=value …` on one line; a stack trace follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        members = _members(record)
        head = [
            members.pop("time"),
            f"{members.pop('level'):<7}",
            members.pop("logger"),
            _one_line(members.pop("message")),
        ]
        line = " ".join([*head, *(f"{name}={_quoted(value)}" for name, value in members.items())])
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _one_line(message: str) -> str:
    return message.replace("\r", "\\r").replace("\n", "\\n")


def _quoted(value: Any) -> str:
    plain = str(value)
    return plain if plain and _PLAIN_CHARACTERS.issuperset(plain) else json.dumps(plain)


def configure(level: str, style: str) -> None:
    """Send everything from `level` on to standard error; `style` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel("WARNING")
