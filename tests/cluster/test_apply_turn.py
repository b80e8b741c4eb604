"""A follower applies once it has acknowledged, a leader at once."""

from __future__ import annotations

from cluster.apply_turn import WAIT_MAX_S, ApplyTurn
from tests.cluster.clocks import ManualClock
from tests.cluster.journal.stepping import Bench, open_bench


def _follower() -> tuple[Bench, ManualClock, ApplyTurn]:
    bench, clock = open_bench(), ManualClock()
    return bench, clock, ApplyTurn(bench.journal, clock)


def test_it_waits_for_the_disk_and_no_longer() -> None:
    bench, _, turn = _follower()
    assert turn.has_come(leading=False)
    bench.append(1)
    assert not turn.has_come(leading=False)
    assert turn.waits
    bench.settle()
    assert turn.has_come(leading=False)
    assert not turn.waits


def test_what_is_written_later_is_not_waited_for() -> None:
    bench, _, turn = _follower()
    bench.append(1)
    assert not turn.has_come(leading=False)
    bench.journal.flush()
    bench.append(1)  # goes with the next group
    bench.executor.step()
    assert not turn.has_come(leading=False)
    bench.executor.step()
    assert bench.journal.oldest_unsynced_since_s is not None
    assert turn.has_come(leading=False)


def test_a_slow_disk_is_not_waited_for() -> None:
    bench, clock, turn = _follower()
    bench.append(1)
    assert not turn.has_come(leading=False)
    clock.advance(WAIT_MAX_S)
    assert turn.has_come(leading=False)
    assert not turn.waits


def test_a_leader_does_not_wait() -> None:
    bench, _, turn = _follower()
    bench.append(1)
    assert not turn.has_come(leading=False)
    assert turn.has_come(leading=True)
    assert not turn.waits
