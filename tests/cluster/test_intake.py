"""Batches become entries once, in the term they name, at a time that can be trusted."""

from __future__ import annotations

import pytest

from cluster.messages import ProtocolViolationError
from statemachine import limits as state_limits
from statemachine.commands import CreateSession
from statemachine.entry import encode_batch
from tests.cluster.listening import listen
from tests.sim.load import frame_of
from tests.sim.member import Member
from tests.sim.script import Script

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
