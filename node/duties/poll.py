"""One heartbeat at this node: what it brings, what it can be answered with, and the poll it may keep open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from node.duties.messages import BeatAnswer, Running


class UnknownAgentError(Exception):
    """There is no agent of that id."""


class StaleEpochError(Exception):
    """The agent is at another epoch: whoever called is not it any more."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the agent is at epoch {epoch}")
        self.epoch = epoch


@dataclass(frozen=True, slots=True)
class Call:
    """One heartbeat. `metrics` is JSON."""

    agent_id: str
    epoch: int
    project: str
    wait_ms: int
    metrics: bytes | None
    running: tuple[Running, ...]


@dataclass(frozen=True, slots=True)
class Attended:
    """A heartbeat that can be answered. `superseded`: by a newer poll, so the answer is empty."""

    answer: BeatAnswer
    superseded: bool = False


class OpenPoll:
    """An open poll. It is woken when the agent may have news."""

    __slots__ = ("announced", "call", "ended", "number", "superseded", "until_s", "woken")

    def __init__(self, number: int, call: Call, until_s: float) -> None:
        self.number = number
        self.call = call
        self.until_s = until_s
        self.announced = True
        self.superseded = False
        self.ended: Exception | None = None
        self.woken = asyncio.Event()

    def end(self, error: Exception) -> None:
        self.ended = error
        self.woken.set()
