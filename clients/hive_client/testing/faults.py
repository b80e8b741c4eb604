"""Trouble on demand: what a network or a node may do to a request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class FaultKind(Enum):
    """What can go wrong on the way."""

    LOSE_REQUEST = "the connection breaks before the request arrives"
    LOSE_REPLY = "the request takes effect, the answer is lost"
    REFUSE = "the node answers with a problem and does nothing"


@dataclass(frozen=True)
class Fault:
    """One fault, for requests that match."""

    kind: FaultKind
    path_has: str = ""
    code: str = "no_leader"
    extra: dict[str, Any] | None = None


class Faults:
    """Faults wait in order; each hits the next request whose path contains ``path_has``, once."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self.down = False

    def lose_request(self, path_has: str = "", times: int = 1) -> None:
        self._waiting += [Fault(FaultKind.LOSE_REQUEST, path_has)] * times

    def lose_reply(self, path_has: str = "", times: int = 1) -> None:
        self._waiting += [Fault(FaultKind.LOSE_REPLY, path_has)] * times

    def refuse(self, code: str = "no_leader", path_has: str = "", times: int = 1, **extra: Any) -> None:
        self._waiting += [Fault(FaultKind.REFUSE, path_has, code, extra)] * times

    def next(self, path: str) -> Fault | None:
        for fault in self._waiting:
            if fault.path_has in path:
                self._waiting.remove(fault)
                return fault
        return None
