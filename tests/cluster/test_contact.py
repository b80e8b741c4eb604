"""Probes prove leadership; clocks of the others keep a wrong one harmless."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.contact import Contact
from cluster.entry_time import EntryTime
from tests.cluster.clocks import ManualClock


class Bench:
    """The contacts of n1 in a cluster of `size`."""

    def __init__(self, size: int = 3) -> None:
        self.clock = ManualClock()
        self.pings: list[dict[str, Any]] = []
        self.confirmed: list[int] = []
        self.others = [f"n{number}" for number in range(2, size + 1)]
        self.contact = Contact(
            "n1", self.others, self.clock, broadcast=self.pings.append, on_confirmed=self.confirmed.append
        )
        self.time = EntryTime(self.clock, self.contact, skew_max_ms=5_000)

    def pong(self, peer_id: str, number: int, term: int = 1, *, current: int = 1, ahead_ms: int = 0) -> None:
        message = {"n": number, "term": term, "wall_ms": self.clock.wall_ms() + ahead_ms}
        self.contact.on_pong(peer_id, message, current)

    def clocks(self, **ahead_ms: int) -> None:
        number = self.contact.probe(1, 1)
        for peer_id, ahead in ahead_ms.items():
            self.pong(peer_id, number, ahead_ms=ahead)


def test_a_majority_confirms_a_round_once() -> None:
    bench = Bench(5)
    number = bench.contact.probe(1, 10)
    bench.pong("n2", number)
    bench.pong("n2", number)
    assert bench.confirmed == []
    bench.pong("n3", number)
    bench.pong("n4", number)
    assert bench.confirmed == [number]


def test_one_alone_is_a_majority() -> None:
    bench = Bench(1)
    assert bench.confirmed == [bench.contact.probe(1, 1)]


@pytest.mark.parametrize(("term", "current"), [(2, 1), (2, 2), (1, 2), (0, 1)])
def test_answers_of_other_terms_confirm_nothing(term: int, current: int) -> None:
    bench = Bench()
    number = bench.contact.probe(1, 1)
    bench.pong("n2", number, term, current=current)
    assert bench.confirmed == []


def test_strangers_confirm_nothing() -> None:
    bench = Bench()
    number = bench.contact.probe(1, 1)
    bench.pong("n9", number)
    assert bench.confirmed == []


def test_confirmation_is_as_old_as_the_probe() -> None:
    bench = Bench()
    number = bench.contact.probe(1, 1)
    bench.clock.advance(0.25)
    bench.pong("n2", number)
    assert bench.contact.confirmed_s(1) == pytest.approx(0.25)
    assert bench.contact.confirmed_s(2) is None


def test_quorum_contact_counts_this_node_and_forgets() -> None:
    bench = Bench(5)
    bench.contact.heard("n2")
    assert not bench.contact.has_quorum_contact(1.0)
    bench.contact.heard("n3")
    assert bench.contact.has_quorum_contact(1.0)
    bench.clock.advance(1.5)
    assert not bench.contact.has_quorum_contact(1.0)


def test_lag_is_the_age_of_what_was_surely_committed() -> None:
    bench = Bench()
    assert bench.contact.lag_ms() is None
    bench.contact.on_ping({"commit": 10, "age_ms": 40}, applied_index=10)
    assert bench.contact.lag_ms() == 40
    bench.clock.advance(0.1)
    bench.contact.on_ping({"commit": 20, "age_ms": 30}, applied_index=10)
    assert bench.contact.lag_ms() == 140
    bench.contact.on_applied(20)
    assert bench.contact.lag_ms() == 30


def test_a_leader_that_follows_next_knows_how_old_its_state_is() -> None:
    bench = Bench()
    number = bench.contact.probe(1, 10)
    bench.clock.advance(0.02)
    bench.pong("n2", number)
    bench.contact.led(applied_index=9)
    assert bench.contact.lag_ms() is None
    bench.contact.on_applied(10)
    assert bench.contact.lag_ms() == 20


def test_a_follower_has_a_quorum_while_its_leader_says_so() -> None:
    bench = Bench(5)
    bench.contact.heard("n2")
    assert not bench.contact.leader_has_quorum(0.6)
    bench.contact.on_ping({"commit": 10, "age_ms": 100}, applied_index=1)
    assert bench.contact.leader_has_quorum(0.6)
    bench.clock.advance(0.55)
    assert not bench.contact.leader_has_quorum(0.6)


def test_entry_time_never_goes_back() -> None:
    bench = Bench()
    bench.clocks(n2=0, n3=0)
    first = bench.time.stamp_ms()
    bench.clock.wall -= 3_600_000
    assert bench.time.stamp_ms() == first
    bench.time.seen(first + 7)
    assert bench.time.stamp_ms() == first + 7


def test_a_clock_far_ahead_moves_the_time_by_half_a_second_at_most() -> None:
    bench = Bench()
    true_ms = bench.clock.wall_ms()
    bench.clocks(n2=0, n3=0)
    bench.clock.wall += 3_600_000
    assert bench.time.stamp_ms() == true_ms + 500
    assert bench.time.clock_is_wrong


def test_a_peer_with_a_wrong_clock_does_not_move_the_time() -> None:
    bench = Bench()
    bench.clocks(n2=-3_600_000, n3=2)
    assert bench.time.stamp_ms() == bench.clock.wall_ms()
    assert not bench.time.clock_is_wrong


def test_of_two_clocks_the_earlier_counts() -> None:
    """A time that runs ahead cannot be taken back (found by the simulator: the mean of two ran half an hour ahead)."""
    bench = Bench()
    bench.clocks(n2=-3_600_000)
    assert bench.time.stamp_ms() == bench.clock.wall_ms() - 3_600_000 + 500
    ahead = Bench()
    ahead.clocks(n2=3_600_000)
    assert ahead.time.stamp_ms() == ahead.clock.wall_ms()
    assert not ahead.time.clock_is_wrong


def test_no_time_is_known_before_a_majority_of_clocks_is() -> None:
    bench = Bench(5)
    known = [bench.time.known]
    for peer_id in bench.others:
        bench.clocks(**{peer_id: 0})
        known.append(bench.time.known)
    assert known == [False, False, True, True, True]
    for peer_id in ("n3", "n4", "n5"):
        bench.contact.lost(peer_id)
    assert not bench.time.known


def test_what_a_clock_said_is_forgotten() -> None:
    bench = Bench()
    bench.clocks(n2=-60_000, n3=-60_000)
    before = (bench.time.clock_is_wrong, bench.time.known)
    bench.clock.advance(11)
    assert before == (True, True)
    assert (bench.time.clock_is_wrong, bench.time.known) == (False, False)


def test_a_clock_that_is_set_right_is_right_at_once() -> None:
    bench = Bench()
    bench.clock.wall += 60_000
    bench.clocks(n2=-60_000, n3=-60_000)
    before = bench.time.clock_is_wrong
    bench.clock.wall -= 60_000
    assert (before, bench.time.clock_is_wrong) == (True, False)
