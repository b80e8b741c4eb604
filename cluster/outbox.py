"""Messages that promise something about this node's disk wait here until the disk has it.

Acknowledgements, votes and vote requests of one peer leave in the order they were made (FIFO, heartbeat answers
too), each
once everything written before it is durable. Durability is the journal's write sequence, never an index: a cut and
rewritten tail has the same indexes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]


class Outbox:
    """Held messages of every peer."""

    def __init__(self, send: Callable[[str, Message], bool]) -> None:
        self._send = send
        self._held: dict[str, deque[tuple[int, Message]]] = {}

    def hold(self, peer_id: str, sequence: int, message: Message) -> None:
        """Send `message` once the journal's durable sequence has reached `sequence`."""
        self._held.setdefault(peer_id, deque()).append((sequence, message))

    def release(self, durable_sequence: int) -> None:
        """Send what has become true."""
        for peer_id, held in self._held.items():
            while held and held[0][0] <= durable_sequence:
                self._send(peer_id, held.popleft()[1])

    def forget(self, peer_id: str) -> None:
        """The connection is gone: nothing made for it may be sent on the next one."""
        self._held.pop(peer_id, None)
