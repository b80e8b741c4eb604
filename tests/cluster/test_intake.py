"""Batches become entries once, in the term they name, at a time that can be trusted."""

from __future__ import annotations

import pytest

from cluster.messages import ProtocolViolationError
from statemachine import limits as state_limits
from statemachine.commands import CreateSession
from statemachine.entry import encode_batch
from tests.cluster.listening import listen
from tests.sim.load import Result, frame_of
from tests.sim.member import Member
from tests.sim.script import Script, script

_RUN = 99


def _batch(sequence: int, frames: int = 1) -> bytes:
    name = f"b{sequence}"
    return encode_batch(_RUN, sequence, [frame_of(name, CreateSession(name))] * frames)


def _take(member: Member, peer: Member, sequence: int, *, term: int | None = None, frames: int = 1) -> None:
    core = member.core
    core.intake.take(peer.node_id, core.engine.term if term is None else term, 1, _batch(sequence, frames))


def test_a_repeated_batch_is_appended_once(play: Script) -> None:
    leader, peer = play.leader, play.others(play.leader)[0]
    before = leader.core.journal.last_index
    _take(leader, peer, 1)
    _take(leader, peer, 1)
    leader.core.pump()
    _take(leader, peer, 1)
    leader.core.pump()
    assert leader.core.journal.last_index == before + 1


@pytest.mark.parametrize("why", ["old term", "next term", "paused", "follower"])
def test_a_batch_is_appended_in_the_term_it_names_or_not_at_all(play: Script, why: str) -> None:
    leader, (peer, other) = play.leader, play.others(play.leader)
    refusals = listen(play, "refused")
    receiver = other if why == "follower" else leader
    leader.core.intake.paused = why == "paused"
    shift = {"old term": -1, "next term": 1}.get(why, 0)
    before = receiver.core.journal.last_index
    _take(receiver, peer, 1, term=receiver.core.engine.term + shift)
    receiver.core.pump()
    assert receiver.core.journal.last_index == before
    assert [(to, message["code"]) for _, to, message in refusals] == [(peer.node_id, "not_leader")]


def test_batches_of_a_moment_are_one_entry_within_its_limits(play: Script) -> None:
    leader, peer = play.leader, play.others(play.leader)[0]
    before = leader.core.journal.last_index
    half = state_limits.ENTRY_COMMANDS_MAX // 2 + 1
    for sequence, frames in enumerate((1, 1, half, half, 1), 1):
        _take(leader, peer, sequence, frames=frames)
    leader.core.pump()
    assert leader.core.journal.last_index == before + 2


def test_what_comes_while_an_entry_is_under_way_becomes_one_entry(play: Script) -> None:
    leader, peers = play.leader, play.others(play.leader)
    object.__setattr__(leader.core.intake._limits, "entry_enough_commands", 4)
    before = leader.core.journal.last_index
    _take(leader, peers[0], 1)
    leader.core.pump()
    for sequence in (2, 3, 4):
        _take(leader, peers[0], sequence)
        leader.core.pump()
    assert leader.core.journal.last_index == before + 1
    play.until(lambda: leader.core.engine.applied_index == before + 2)
    assert leader.core.journal.last_index == before + 2


@pytest.mark.parametrize("enough", ["entry_enough_commands", "entry_enough_bytes"])
def test_enough_commands_do_not_wait_for_an_entry_under_way(play: Script, enough: str) -> None:
    leader, peer = play.leader, play.others(play.leader)[0]
    waiting_bytes = len(_batch(2)) + len(_batch(3, 3))
    least = {"entry_enough_commands": 1_000, "entry_enough_bytes": 1 << 20} | {
        enough: {"entry_enough_commands": 4, "entry_enough_bytes": waiting_bytes}[enough]
    }
    for name, value in least.items():
        object.__setattr__(leader.core.intake._limits, name, value)
    before = leader.core.journal.last_index
    for sequence, frames in ((1, 1), (2, 1), (3, 3)):
        _take(leader, peer, sequence, frames=frames)
        leader.core.pump()
    assert leader.core.journal.last_index == before + 2


def _let_few_wait(play: Script) -> None:
    """Entries are made as where nothing else is said, at every node."""
    object.__setattr__(play.sim.plan.limits, "entry_enough_commands", 128)


def _under_way(play: Script, member: Member) -> tuple[list[Result], list[Result]]:
    """Two writes at a leader: one in its log and not committed, and one that waits for that."""
    _let_few_wait(play)
    before = member.core.journal.last_index
    first = play.begin_write(member, timeout_s=60.0)
    play.until(lambda: member.core.journal.last_index == before + 1)
    second = play.begin_write(member, timeout_s=60.0)
    member.core.pump()
    assert member.core.journal.last_index == before + 1
    assert not (first or second)
    return first, second


def _done(*results: list[Result]) -> bool:
    return all(bool(result) and not isinstance(result[0], Exception) for result in results)


def test_what_waits_for_an_entry_that_is_never_committed_happens_once_under_the_next_leader(play: Script) -> None:
    leader = play.leader
    play.cut([leader], play.others(leader))
    first, second = _under_way(play, leader)
    end = leader.core.journal.last_index
    play.until(lambda: any(member.core.is_leader for member in play.others(leader)))
    play.until(lambda: not leader.core.engine.leading)
    assert leader.core.journal.last_index == end, "what waited was not appended when the leader fell back"
    assert not second, "and nobody knows yet what becomes of it"
    play.heal()
    play.until(lambda: bool(first and second))
    assert _done(first, second)
    assert play.finish() == []


def test_what_waits_is_decided_when_a_majority_comes_back(play: Script) -> None:
    """In the same term: the leader never heard of another."""
    leader, term = play.leader, play.leader.core.engine.term
    play.cut([leader], play.others(leader))
    first, second = _under_way(play, leader)
    play.wait(0.1)
    assert not (first or second)
    play.heal()
    play.until(lambda: _done(first, second))
    assert leader.core.engine.term == term
    assert play.finish() == []


def test_one_member_that_is_away_keeps_nothing_waiting(play: Script) -> None:
    leader = play.leader
    away = play.others(leader)[0]
    play.cut([away], play.others(away))
    first, second = _under_way(play, leader)
    play.until(lambda: _done(first, second))
    assert leader.core.engine.match_index(away.node_id) < leader.core.journal.last_index
    play.heal()
    assert play.finish() == []


def test_what_waits_while_leadership_is_handed_over_happens_once(play: Script) -> None:
    leader = play.leader
    successor = play.others(leader)[0]
    first, second = _under_way(play, leader)
    leader.core.intake.paused = True
    third = play.begin_write(leader, timeout_s=60.0)
    # It was taken before: it is still this leader's to append, and the successor must catch up with it.
    play.until(lambda: _done(first, second))
    assert not third
    play.hand_over(successor)
    leader.core.intake.paused = False
    play.until(lambda: _done(third))
    assert play.finish() == []


def test_a_leader_that_stops_while_writes_wait_leaves_them_to_whoever_sent_them(play: Script) -> None:
    leader = play.leader
    writer = play.others(leader)[0]
    _let_few_wait(play)
    play.cut(play.others(leader), [leader], both=False)
    before = leader.core.journal.last_index
    results = [play.begin_write(writer, timeout_s=60.0)]
    play.sim.hub.heal({(writer.node_id, leader.node_id)})
    play.until(lambda: leader.core.journal.last_index == before + 1)
    play.cut([writer], [leader], both=False)
    assert not any(results)
    leader.crash(power=True)
    play.until(lambda: any(member.core.is_leader for member in play.others(leader)))
    results.append(play.begin_write(writer, timeout_s=60.0))
    play.until(lambda: _done(*results))
    play.heal()
    assert play.finish() == []


@pytest.mark.parametrize("learner", [False, True])
def test_with_one_voter_nothing_waits(*, learner: bool) -> None:
    """What one voter appends is committed; learners, here one that is away, have no say."""
    with script(nodes=1, disk_s=0.01) as play:
        if learner:
            play.cut([play.add_learner("n2")], [play.leader])
        _let_few_wait(play)
        before = play.leader.core.journal.last_index
        results = []
        for _ in range(3):
            results.append(play.begin_write(play.leader, timeout_s=60.0))
            play.leader.core.pump()
        assert play.leader.core.journal.last_index == before + 3
        play.until(lambda: _done(*results))
        play.heal()
        assert play.finish() == []


def test_writes_wait_for_a_change_of_members_as_for_any_entry(play: Script) -> None:
    _let_few_wait(play)
    leader = play.leader
    results = [play.begin_write(leader, timeout_s=60.0)]
    play.add_learner("n4")
    results.append(play.begin_write(leader, timeout_s=60.0))
    play.until(lambda: _done(*results))
    assert play.finish() == []


def test_what_waits_counts_as_uncommitted(play: Script) -> None:
    leader, (peer, other) = play.leader, play.others(play.leader)
    _let_few_wait(play)
    refusals = listen(play, "refused")
    play.cut([leader], [peer, other])
    room = 3 * len(_batch(1)) + 200
    object.__setattr__(leader.core.intake._limits, "uncommitted_bytes_max", room)
    for sequence in range(1, 8):
        _take(leader, peer, sequence)
        leader.core.pump()
    taken = 7 - len(refusals)
    assert 1 < taken < 7
    assert {message["code"] for _, _, message in refusals} == {"overloaded"}


def test_a_leader_with_too_many_uncommitted_bytes_takes_no_more(play: Script) -> None:
    leader, (peer, _) = play.leader, play.others(play.leader)
    refusals = listen(play, "refused")
    object.__setattr__(leader.core.intake._limits, "uncommitted_bytes_max", 0)
    _take(leader, peer, 1)
    _take(leader, peer, 2)
    assert [message["code"] for _, _, message in refusals] == ["overloaded"]


@pytest.mark.parametrize("batch", [b"", b"x" * 10, _batch(1)[:-1], _batch(1) + b"x"])
def test_a_malformed_batch_is_a_violation(play: Script, batch: bytes) -> None:
    core, peer = play.leader.core, play.others(play.leader)[0]
    with pytest.raises(ProtocolViolationError):
        core.intake.take(peer.node_id, core.engine.term, 1, batch)


def test_what_a_leader_took_dies_with_its_term(play: Script) -> None:
    leader, peer = play.leader, play.others(play.leader)[0]
    before = leader.core.journal.last_index
    _take(leader, peer, 1)
    leader.core.transport.newer_term(peer.node_id, leader.core.engine.term + 1)
    leader.core.intake.append()
    assert leader.core.journal.last_index == before


def test_nothing_is_stamped_before_the_clocks_are_known(play: Script) -> None:
    leader, peers = play.leader, play.others(play.leader)
    before = leader.core.journal.last_index
    for peer in peers:
        leader.core.contact.lost(peer.node_id)
    _take(leader, peers[0], 1)
    leader.core.intake.append()
    assert leader.core.journal.last_index == before
    play.until(lambda: leader.core.journal.last_index == before + 1)
