"""What stands between the engine and the network, hole by hole (cluster/DESIGN.md)."""

from __future__ import annotations

import pytest

from cluster.messages import ProtocolViolationError
from tests.cluster.listening import Message, listen
from tests.sim.script import Script, script


def test_h1_nothing_is_committed_without_a_log_match(play: Script) -> None:
    leader, follower = play.leader, play.others(play.leader)[0]
    core = follower.core
    core.engine._SyncObj__raftLog.add(b"\x00x", core.journal.last_index + 1, core.engine.term)
    before = core.engine.commit_index
    message = {"type": "append_entries", "term": core.engine.term, "commit_index": before + 1, "serialized": None}
    core.transport.receive(leader.node_id, message)
    assert core.engine.commit_index == before


def test_h10_h12_h18_what_the_engine_must_not_see_is_a_violation(play: Script) -> None:
    leader, follower = play.leader, play.others(play.leader)[0]
    core = follower.core
    chunk = {"type": "append_entries", "term": core.engine.term, "commit_index": 1, "transmission": "start"}
    for message in (chunk | {"prevLogIdx": 1, "prevLogTerm": 0}, {"type": "apply_command", "command": b"\x00"}):
        with pytest.raises(ProtocolViolationError):
            core.transport.receive(leader.node_id, message)


def test_h16_a_reset_that_answers_an_older_append_is_dropped(play: Script) -> None:
    leader, follower = play.leader, play.others(play.leader)[0]
    core, peer = leader.core, follower.node_id

    def reset(number: int, index: int) -> None:
        message = {"next_node_idx": index, "reset": True, "success": False, "term": core.engine.term, "n": number}
        core.transport.receive(peer, {"type": "next_node_idx"} | message)

    newest = core.transport._append_number[peer]
    reset(newest, 2)
    assert core.engine.next_index(peer) == 2
    core.engine.set_next_index(peer, 3)
    reset(newest, 1)
    assert core.engine.next_index(peer) == 3


def test_h19_a_vote_counts_once() -> None:
    with script(nodes=5) as five:
        loser, peer = five.others(five.leader)[0], five.leader
        core = loser.core
        core.engine.enter()
        core.elections.before_tick = lambda: True  # type: ignore[method-assign]  # campaign without asking
        core.engine.campaign_now()
        core.engine.doTick(0)
        assert core.engine.candidate
        for _ in range(3):
            core.transport.receive(peer.node_id, {"type": "response_vote", "term": core.engine.term})
        assert core.engine.candidate


def test_h20_an_old_leader_hears_of_the_newer_term(play: Script) -> None:
    leader, follower = play.leader, play.others(play.leader)[0]
    heard = listen(play, "newer_term")
    term = follower.core.engine.term
    place = {"prevLogIdx": 1, "prevLogTerm": 0, "entries": []}
    old = {"type": "append_entries", "term": term - 1, "commit_index": 1} | place
    follower.core.transport.receive(leader.node_id, old)
    assert [(to, message["term"]) for _, to, message in heard] == [(leader.node_id, term)]
    leader.core.transport.newer_term(follower.node_id, term + 1)
    assert not leader.core.engine.leading
    assert leader.core.engine.term == term + 1


@pytest.mark.parametrize(
    "message",
    [
        {"type": "nonsense"},
        {},
        {"type": "ping", "n": "1"},
        {"type": "append_entries", "term": 1, "commit_index": 1, "prevLogIdx": "x", "prevLogTerm": 0},
        {"type": "append_entries", "term": 1, "commit_index": 1, "prevLogIdx": 1, "prevLogTerm": 0, "entries": 7},
        {"type": "propose", "term": 1, "low": 1, "batch": b"\x00"},
        {"type": "snapshot_offer", "term": 9, "manifest": b"\xc1"},
        {"type": "snapshot_offer", "term": 9, "manifest": b""},
    ],
)
def test_a_malformed_message_costs_its_sender_the_connection_and_nobody_more(play: Script, message: Message) -> None:
    sender, receiver = play.leader, play.others(play.leader)[0]
    connection = sender.core.transport.connected
    sender.core.send(receiver.node_id, message)
    play.until(lambda: receiver.node_id not in connection)
    play.until(lambda: receiver.node_id in connection)
    assert play.finish() == []
