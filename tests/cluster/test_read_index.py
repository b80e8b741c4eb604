"""A linearizable read waits for a quorum, and shares it."""

from __future__ import annotations

from tests.cluster.listening import listen
from tests.sim.member import Member
from tests.sim.script import Script


def _read(member: Member, timeout_s: float = 1.0) -> list[Exception | None]:
    results: list[Exception | None] = []
    member.core.read_barrier(timeout_s, results.append)
    return results


def test_reads_of_a_moment_share_a_round(play: Script) -> None:
    leader = play.leader
    rounds = listen(play, "ping")
    results = [_read(leader) for _ in range(10)]
    play.until(lambda: all(results))
    assert results == [[None]] * 10
    assert len({message["n"] for _, _, message in rounds}) <= 2


def test_a_read_at_a_follower_asks_the_leader(play: Script) -> None:
    follower = play.others(play.leader)[0]
    asked = listen(play, "read_index")
    results = _read(follower)
    play.until(lambda: bool(results))
    assert results == [None]
    assert len(asked) == 1


def test_a_cut_off_leader_answers_no_read(play: Script) -> None:
    leader = play.leader
    play.cut([leader], play.others(leader))
    results = _read(leader, timeout_s=0.3)
    play.wait(0.5)
    assert [type(result).__name__ for result in results] == ["NotCommittedError"]


def test_questions_of_two_runs_have_different_numbers(play: Script) -> None:
    follower = play.others(play.leader)[0]
    asked = listen(play, "read_index")
    first = _read(follower)
    play.until(lambda: bool(first))
    follower.crash(power=False)
    follower.start()
    play.until(play.sim.equal)
    second = _read(follower)
    play.until(lambda: bool(second))
    numbers = [message["number"] for _, _, message in asked]
    assert abs(numbers[-1] - numbers[0]) > 1_000_000
