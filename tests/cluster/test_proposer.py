"""A write ends with what the log says of it, or with an honest error."""

from __future__ import annotations

import pytest

from cluster.proposer import Proposer
from cluster.replica import Metrics, NotCommittedError, OutcomeUnknownError
from cluster.settings import Limits
from statemachine import limits as state_limits
from statemachine.commands import CreateSession
from statemachine.entry import batch_frame_count, batch_identity
from statemachine.outcome import Outcome
from tests.cluster.clocks import ManualClock
from tests.sim.load import frame_of

Result = list[Outcome] | Exception


class Bench:
    """A proposer, what it sent as (term, sequence), and what its waiters heard."""

    def __init__(self, **limits: int) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.sent: list[tuple[int, int]] = []
        self.frames: list[int] = []
        self.lows: list[int] = []
        self.reachable = True
        self.proposer = Proposer(7, self.clock, Limits(**limits), self.metrics, self._send)

    def _send(self, term: int, low: int, batch: bytes) -> bool:
        if self.reachable:
            run, sequence = batch_identity(batch)
            assert run == 7
            self.sent.append((term, sequence))
            self.frames.append(batch_frame_count(batch))
            self.lows.append(low)
        return self.reachable

    def propose(self, frames: int = 1, timeout_s: float = 1.0, term: int | None = None) -> list[Result]:
        results: list[Result] = []
        name = f"w{len(self.sent)}"
        self.proposer.propose([frame_of(name, CreateSession(name))] * frames, timeout_s, results.append, term)
        return results


def outcomes(count: int) -> list[Outcome]:
    return [Outcome(revision) for revision in range(count)]


def test_writes_of_a_moment_share_a_batch_and_get_their_own_outcomes() -> None:
    bench = Bench()
    first, second = bench.propose(), bench.propose(frames=2)
    bench.proposer.pump(3)
    assert bench.sent == [(3, 1)]
    assert bench.frames == [3]
    bench.proposer.applied(1, outcomes(3))
    assert first == [outcomes(3)[:1]]
    assert second == [outcomes(3)[1:]]
    assert bench.metrics.proposals_pending == 0


def test_nothing_is_sent_without_a_leader() -> None:
    bench = Bench()
    results = bench.propose()
    bench.proposer.pump(None)
    bench.reachable = False
    bench.proposer.pump(1)
    assert bench.sent == []
    bench.reachable = True
    bench.proposer.pump(1)
    assert bench.sent[0][0] == 1
    assert results == []


def test_a_batch_that_a_newer_term_shut_out_is_proposed_again_under_a_new_sequence() -> None:
    bench = Bench()
    results = bench.propose()
    bench.proposer.pump(1)
    bench.proposer.applied_term(1)
    bench.proposer.pump(1)
    assert bench.sent == [(1, 1)]
    bench.proposer.applied_term(2)
    bench.proposer.pump(2)
    assert bench.sent == [(1, 1), (2, 2)]
    bench.proposer.applied(1, outcomes(1))
    assert results == []
    bench.proposer.applied(2, outcomes(1))
    assert results == [outcomes(1)]


def test_time_over_before_it_was_sent_is_a_no() -> None:
    bench = Bench()
    results = bench.propose(timeout_s=0.5)
    bench.clock.advance(0.5)
    bench.proposer.expire()
    assert isinstance(results[0], NotCommittedError)
    assert results[0].code == "no_leader"
    bench.proposer.pump(1)
    assert bench.sent == []


def test_time_over_after_it_was_sent_is_unknown_and_stays_so() -> None:
    bench = Bench()
    results = bench.propose(timeout_s=0.5)
    bench.proposer.pump(1)
    bench.clock.advance(0.5)
    bench.proposer.expire()
    bench.proposer.applied(1, outcomes(1))
    bench.proposer.applied_term(2)
    bench.proposer.pump(2)
    assert [type(result) for result in results] == [OutcomeUnknownError]
    assert bench.sent == [(1, 1)]


def test_batches_nobody_waits_for_make_room() -> None:
    """A lost refusal must not cost a place for ever (found by the simulator)."""
    bench = Bench()
    for _ in range(6):
        bench.propose(timeout_s=0.5)
        bench.proposer.pump(1)
    assert len(bench.sent) == 4
    bench.clock.advance(0.5)
    bench.proposer.expire()
    bench.propose()
    bench.proposer.pump(1)
    assert len(bench.sent) == 5


def test_not_leader_proposes_again_after_a_pause() -> None:
    bench = Bench()
    results = bench.propose()
    bench.proposer.pump(1)
    bench.proposer.refused(1, 1, "not_leader")
    bench.proposer.pump(1)
    assert len(bench.sent) == 1
    bench.clock.advance(0.02)
    bench.proposer.pump(2)
    assert bench.sent == [(1, 1), (2, 2)]
    assert results == []


def test_not_leader_proves_nothing_about_a_batch_sent_twice() -> None:
    bench = Bench()
    bench.propose()
    bench.proposer.pump(1)
    bench.proposer.reconnected(1)
    assert bench.sent == [(1, 1), (1, 1)]
    bench.proposer.refused(1, 1, "not_leader")
    bench.clock.advance(0.02)
    bench.proposer.pump(1)
    assert bench.sent == [(1, 1), (1, 1)]


def test_only_batches_of_that_term_are_sent_again() -> None:
    bench = Bench()
    bench.propose()
    bench.proposer.pump(1)
    bench.proposer.reconnected(2)
    assert bench.sent == [(1, 1)]


def test_a_refusal_of_another_term_is_not_for_this_batch() -> None:
    bench = Bench()
    results = bench.propose()
    bench.proposer.pump(2)
    bench.proposer.refused(1, 1, "overloaded")
    assert results == []


def test_overloaded_is_final() -> None:
    bench = Bench()
    results = bench.propose()
    bench.proposer.pump(1)
    bench.proposer.refused(1, 1, "overloaded")
    assert isinstance(results[0], NotCommittedError)
    assert (results[0].code, results[0].retry_after_ms) == ("overloaded", 200)


def test_a_snapshot_over_the_gap_makes_what_was_sent_unknown() -> None:
    bench = Bench()
    sent = bench.propose()
    bench.proposer.pump(1)
    waiting = bench.propose()
    bench.proposer.gap()
    assert isinstance(sent[0], OutcomeUnknownError)
    assert waiting == []


def test_a_stopping_node_tells_sent_from_unsent() -> None:
    bench = Bench()
    sent = bench.propose()
    bench.proposer.pump(1)
    unsent = bench.propose()
    bench.proposer.close()
    assert isinstance(sent[0], OutcomeUnknownError)
    assert isinstance(unsent[0], NotCommittedError)
    assert bench.proposer.idle
    with pytest.raises(NotCommittedError, match="stopping"):
        bench.propose()


def test_four_batches_are_under_way_at_most() -> None:
    bench = Bench()
    for _ in range(6):
        bench.propose()
        bench.proposer.pump(1)
    assert [sequence for _, sequence in bench.sent] == [1, 2, 3, 4]
    bench.proposer.applied(1, outcomes(1))
    bench.proposer.pump(1)
    assert bench.frames[-1] == 2, "those that waited went together"
    assert bench.lows == [1, 1, 1, 1, 2]


def test_what_does_not_fit_an_entry_is_refused_and_a_batch_never_exceeds_one() -> None:
    bench = Bench()
    with pytest.raises(NotCommittedError, match="do not fit"):
        bench.propose(frames=state_limits.ENTRY_COMMANDS_MAX + 1)
    bench.propose(frames=state_limits.ENTRY_COMMANDS_MAX - 1)
    bench.propose(frames=2)
    bench.proposer.pump(1)
    assert bench.frames == [state_limits.ENTRY_COMMANDS_MAX - 1, 2]


def test_too_many_waiting_writes_are_refused() -> None:
    bench = Bench(proposals_pending_max=2)
    bench.propose()
    bench.propose()
    with pytest.raises(NotCommittedError, match="too many"):
        bench.propose()


def test_what_is_bound_to_a_term_is_not_proposed_in_the_next() -> None:
    bench = Bench()
    bound, free = bench.propose(term=3), bench.propose()
    bench.proposer.pump(3)
    bench.proposer.applied_term(4)
    bench.proposer.pump(4)
    assert bench.sent == [(3, 1), (4, 2)]
    assert bench.frames == [2, 1]
    assert isinstance(bound[0], NotCommittedError)
    assert free == []
    late = bench.propose(term=3)
    bench.proposer.pump(4)
    assert isinstance(late[0], NotCommittedError)
    assert len(bench.sent) == 2
