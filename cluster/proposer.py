"""From a write to an entry of the log, and back to whoever waits: the node's side.

Writes of one moment become one batch (proposer run, sequence), sent to the leader naming the term in which it may be
appended. What became of a batch is decided by the log alone:

* an entry that holds it is applied here: its outcomes are the answer;
* an entry of a higher term is applied here: a batch of an older term that has not appeared never will. It is proposed
  again under a new sequence, whatever its waiters have been told meanwhile;
* neither before a waiter's time is over: unknown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.ports import Clock
from cluster.replica import Metrics, NotCommittedError, OutcomeUnknownError
from cluster.settings import Limits
from statemachine import limits as state_limits
from statemachine.entry import encode_batch
from statemachine.outcome import Outcome

Waiter = Callable[[list[Outcome] | Exception], None]

_BATCHES_IN_FLIGHT_MAX = 4
"""Batches under way per node. More would only make batches smaller: while these travel, the next one fills."""

_REFUSAL_PAUSE_S = 0.01
"""After a leader said that it is none (any more), nothing is sent for this long: it would say so again."""


@dataclass(slots=True)
class _Proposal:
    """The frames of one write."""

    frames: Sequence[bytes]
    bytes: int
    waiter: Waiter | None
    deadline_s: float
    started_s: float
    term: int | None = None


@dataclass(slots=True)
class _Sent:
    """A batch that may be in a log."""

    sequence: int
    term: int
    batch: bytes
    proposals: list[_Proposal]
    times_sent: int = 1


class Proposer:
    """All writes of this node. `send(term, low, batch)` hands a batch to the leader, False when there is none.

    `low` is the lowest sequence still of interest: the leader forgets repeats below it.
    """

    def __init__(
        self, run: int, clock: Clock, limits: Limits, metrics: Metrics, send: Callable[[int, int, bytes], bool]
    ) -> None:
        self.run = run
        self._clock = clock
        self._limits = limits
        self._metrics = metrics
        self._send = send
        self._sequence = 0
        self._waiting: deque[_Proposal] = deque()
        self._sent: dict[int, _Sent] = {}
        self._closed = False
        self._paused_until_s = 0.0

    def propose(self, frames: Sequence[bytes], timeout_s: float, waiter: Waiter, term: int | None = None) -> None:
        """Have these frames decided; `waiter` gets their outcomes, or NotCommittedError, or OutcomeUnknownError.

        `term`: in this one or not at all. What a leader decides must not happen under the next one, who knows better.
        """
        size = sum(map(len, frames))
        if self._closed:
            raise NotCommittedError("shutting_down", "this node is stopping; ask another")
        if size > state_limits.ENTRY_BYTES_MAX or len(frames) > state_limits.ENTRY_COMMANDS_MAX:
            raise NotCommittedError("too_large", f"{len(frames)} commands of {size} bytes do not fit one log entry")
        if self._metrics.proposals_pending >= self._limits.proposals_pending_max:
            self._metrics.proposals_failed += 1
            raise NotCommittedError("overloaded", "too many writes are waiting on this node", retry_after_ms=100)
        now = self._clock.monotonic_s()
        self._metrics.proposals_pending += 1
        self._waiting.append(_Proposal(frames, size, waiter, now + timeout_s, now, term))

    def pump(self, term: int | None) -> None:
        """Send what waits to the leader of `term`; None: no leader is known."""
        if term is None:
            return
        while self._waiting and len(self._sent) < _BATCHES_IN_FLIGHT_MAX:
            if self._clock.monotonic_s() < self._paused_until_s:
                return
            sent = self._next_batch(term)
            if sent is None:
                return
            self._sent[sent.sequence] = sent
            if not self._send(term, self._low(), sent.batch):
                del self._sent[sent.sequence]
                self._waiting.extendleft(reversed(sent.proposals))
                return

    def _next_batch(self, term: int) -> _Sent | None:
        proposals: list[_Proposal] = []
        frames: list[bytes] = []
        size = 0
        while self._waiting:
            proposal = self._waiting[0]
            full = (
                size + proposal.bytes > state_limits.ENTRY_BYTES_MAX
                or len(frames) + len(proposal.frames) > state_limits.ENTRY_COMMANDS_MAX
            )
            if full and frames:
                break
            self._waiting.popleft()
            if proposal.term not in (None, term):
                self._finish(proposal, NotCommittedError("no_leader", "the term in which this was decided is over"))
            if proposal.waiter is None:
                continue
            proposals.append(proposal)
            frames.extend(proposal.frames)
            size += proposal.bytes
        if not frames:
            return None
        self._sequence += 1
        return _Sent(self._sequence, term, encode_batch(self.run, self._sequence, frames), proposals)

    def _low(self) -> int:
        return min(self._sent, default=self._sequence)

    def reconnected(self, term: int) -> None:
        """The way to the leader of `term` is new: what was sent on the old one may be lost, so it is sent again; the
        leader drops what it has already."""
        for sequence in sorted(self._sent):
            sent = self._sent[sequence]
            if sent.term == term:
                sent.times_sent += 1
                self._send(term, self._low(), sent.batch)

    def refused(self, sequence: int, term: int, code: str) -> None:
        """The leader did not append this batch: `not_leader` waits for another leader, other codes are final.

        A batch that was sent twice may have been taken the first time by a leader that has stepped down since: then
        `not_leader` proves nothing, and the log decides.
        """
        sent = self._sent.get(sequence)
        if sent is None or sent.term != term or (code == "not_leader" and sent.times_sent > 1):
            return
        del self._sent[sequence]
        if code == "not_leader":
            self._paused_until_s = self._clock.monotonic_s() + _REFUSAL_PAUSE_S
            self._waiting.extendleft(reversed(sent.proposals))
            return
        error = NotCommittedError(code, "the leader has too many unfinished writes", retry_after_ms=200)
        for proposal in sent.proposals:
            self._finish(proposal, error)

    def applied(self, sequence: int, outcomes: Sequence[Outcome]) -> None:
        """A batch of this run was applied here."""
        sent = self._sent.pop(sequence, None)
        if sent is None:
            return
        position = 0
        for proposal in sent.proposals:
            count = len(proposal.frames)
            self._finish(proposal, list(outcomes[position : position + count]))
            position += count

    def applied_term(self, term: int) -> None:
        """An entry of this term was applied here: batches of older terms that were not applied did not happen."""
        lost = [sequence for sequence, sent in self._sent.items() if sent.term < term]
        for sequence in sorted(lost, reverse=True):
            self._waiting.extendleft(reversed(self._sent.pop(sequence).proposals))

    def gap(self) -> None:
        """A snapshot replaced part of the log: what was in it is unknown here."""
        unknown = OutcomeUnknownError("a snapshot was installed here before the outcome was seen")
        for sequence in sorted(self._sent):
            for proposal in self._sent.pop(sequence).proposals:
                self._finish(proposal, unknown)

    def expire(self) -> None:
        """Answer those whose time is over: what was never handed to a leader did not happen, the rest is unknown."""
        now = self._clock.monotonic_s()
        for proposal in self._waiting:
            if proposal.waiter is not None and proposal.deadline_s <= now:
                error = NotCommittedError("no_leader", "no leader was reached in time; nothing happened")
                self._finish(proposal, error)
        while self._waiting and self._waiting[0].waiter is None:
            self._waiting.popleft()
        for sent in self._sent.values():
            for proposal in sent.proposals:
                if proposal.waiter is not None and proposal.deadline_s <= now:
                    self._finish(proposal, OutcomeUnknownError("the write was sent, its outcome not seen in time"))
        # Nobody waits for these any more; the leader may never say what became of them, and they must not stand in the
        # way of others for that.
        forgotten = [n for n, sent in self._sent.items() if all(p.waiter is None for p in sent.proposals)]
        for sequence in forgotten:
            del self._sent[sequence]

    def close(self) -> None:
        """The node stops: unsent writes did not happen, sent ones are unknown."""
        self._closed = True
        while self._waiting:
            self._finish(self._waiting.popleft(), NotCommittedError("shutting_down", "this node is stopping"))
        unknown = OutcomeUnknownError("this node stopped before the outcome was seen")
        for sent in self._sent.values():
            for proposal in sent.proposals:
                self._finish(proposal, unknown)
        self._sent.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting or under way."""
        return not self._waiting and not self._sent

    def _finish(self, proposal: _Proposal, result: list[Outcome] | Exception) -> None:
        waiter, proposal.waiter = proposal.waiter, None
        if waiter is None:
            return
        self._metrics.proposals_pending -= 1
        if isinstance(result, Exception):
            self._metrics.proposals_failed += 1
        waiter(result)
