"""Server-sent events (WHATWG HTML, section 9.2) from lines: pure, one class."""

from __future__ import annotations

from dataclasses import dataclass

EVENT_BYTES_MAX = 8 * 1024 * 1024


class EventTooLarge(ValueError):  # noqa: N818 - says what happened
    """One event exceeds what a watcher holds in memory."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """``id`` is None if this event had none of its own."""

    event: str
    data: str
    id: str | None


class EventParser:
    """Feed lines without line ends; an event comes out at its empty line. Comments count as signs of life only."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._event = "message"
        self._data: list[str] = []
        self._id: str | None = None
        self._size = 0

    def feed(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            return None
        self._size += len(line)
        if self._size > EVENT_BYTES_MAX:
            raise EventTooLarge(f"an event over {EVENT_BYTES_MAX} bytes")
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value or "message"
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event = ServerSentEvent(self._event, "\n".join(self._data), self._id) if self._data else None
        self._reset()
        return event
