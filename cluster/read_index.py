"""Linearizable reads without the log: ReadIndex (Raft thesis 6.4).

The leader takes its commit index when a read arrives, proves with a round of probes *sent after that* that no newer
leader existed, and lets the read go on once that index is applied. Reads that wait at the same time share a round.
Followers ask the leader by a message of their own and wait until they have applied what it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from cluster.contact import Contact
from cluster.engine import Engine
from cluster.ports import Clock
from cluster.replica import NotCommittedError, TooStaleError

Message = dict[str, Any]
Waiter = Callable[[Exception | None], None]

_REFUSAL_PAUSE_S = 0.01
"""After a node said that it does not lead (yet), nothing is asked for this long: it would say so again."""


@dataclass(slots=True)
class _Asked:
    """A read (or a follower's question) that waits for a round: `probe` is the first one sent after it came."""

    term: int
    index: int
    probe: int | None
    answer: Callable[[int | None], None]


@dataclass(slots=True)
class _Waiting:
    """A read of this node: unanswered (`index` None) or waiting until `index` is applied."""

    waiter: Waiter | None
    deadline_s: float
    index: int | None = None
    asked: bool = False


class ReadIndex:
    """All linearizable reads of this node, and those that followers ask of it."""

    def __init__(
        self,
        engine: Engine,
        contact: Contact,
        clock: Clock,
        *,
        ask_leader: Callable[[int], bool],
        first_number: int,
    ) -> None:
        """`first_number` is random: a leader may still answer what was asked before this node was restarted, and its
        answer must not pass for one to a newer read."""
        self._engine = engine
        self._contact = contact
        self._clock = clock
        self._ask_leader = ask_leader
        self._asked: list[_Asked] = []
        self._waiting: dict[int, _Waiting] = {}
        self._number = first_number
        self._paused_until_s = 0.0

    def read(self, timeout_s: float, waiter: Waiter) -> None:
        """`waiter(None)` when a read of the local state is linearizable as of now; else an error."""
        self._number += 1
        self._waiting[self._number] = _Waiting(waiter, self._clock.monotonic_s() + timeout_s)

    def pump(self) -> None:
        """Ask for those that were not asked yet; start the round that the waiting ones share."""
        paused = self._clock.monotonic_s() < self._paused_until_s
        for number, waiting in self._waiting.items():
            if waiting.asked or paused:
                continue
            if self._engine.leading:
                waiting.asked = self._take(partial(self.on_answer, number))
            else:
                waiting.asked = self._ask_leader(number)
        fresh = [asked for asked in self._asked if asked.probe is None]
        if fresh:
            probe = self._contact.probe(self._engine.term, self._engine.commit_index)
            for asked in fresh:
                asked.probe = probe
            if self._contact.alone:
                self.confirmed(probe)

    def _take(self, answer: Callable[[int | None], None]) -> bool:
        engine = self._engine
        if engine.commit_index < engine.no_op_index:
            return False  # what earlier leaders committed is not known to be committed yet
        self._asked.append(_Asked(engine.term, engine.commit_index, None, answer))
        return True

    def on_question(self, answer: Callable[[int | None], None]) -> None:
        """A follower asks this node as leader; None answers that it is not one (yet)."""
        if not self._engine.leading or not self._take(answer):
            answer(None)

    def confirmed(self, probe: int) -> None:
        """A majority answered this probe in its term: all reads that came before it left may go on."""
        done = [asked for asked in self._asked if asked.probe is not None and asked.probe <= probe]
        if not done:
            return
        self._asked = [asked for asked in self._asked if asked.probe is None or asked.probe > probe]
        for asked in done:
            asked.answer(asked.index if asked.term == self._engine.term else None)

    def on_answer(self, number: int, index: int | None) -> None:
        """The leader's answer to a read of this node; None: ask again."""
        waiting = self._waiting.get(number)
        if waiting is None or waiting.index is not None:
            return
        if index is None:
            waiting.asked = False
            self._paused_until_s = self._clock.monotonic_s() + _REFUSAL_PAUSE_S
        else:
            waiting.index = index
            self.applied(self._engine.applied_index)

    def applied(self, applied_index: int) -> None:
        """More is applied here: let go what waited for it."""
        done = [n for n, waiting in self._waiting.items() if waiting.index is not None and waiting.index <=
        applied_index]
        for number in done:
            self._finish(number, None)

    def leadership_changed(self) -> None:
        """Questions to a lost leader are asked again; those asked of this node are answered with no."""
        asked, self._asked = self._asked, []
        for question in asked:
            question.answer(None)
        for waiting in self._waiting.values():
            if waiting.index is None:
                waiting.asked = False

    def expire(self) -> None:
        """Answer those whose time is over."""
        now = self._clock.monotonic_s()
        for number in [n for n, waiting in self._waiting.items() if waiting.deadline_s <= now]:
            if self._waiting[number].index is None:
                self._finish(number, NotCommittedError("no_leader", "no leader confirmed its leadership in time"))
            else:
                self._finish(number, TooStaleError("this node did not catch up with the leader in time"))

    def close(self) -> None:
        """The node stops."""
        for number in list(self._waiting):
            self._finish(number, NotCommittedError("shutting_down", "this node is stopping"))

    @property
    def pending(self) -> bool:
        """Whether reads wait."""
        return bool(self._waiting or self._asked)

    def _finish(self, number: int, error: Exception | None) -> None:
        waiter = self._waiting.pop(number).waiter
        if waiter is not None:
            waiter(error)
