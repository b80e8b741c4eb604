"""The rules of membership inside one core: who counts, and when a campaign is over."""

from __future__ import annotations

import pytest

from cluster.engine import MEMBERSHIP
from cluster.replica import AddMember, MembershipRefusedError, NotCommittedError, PromoteMember, RemoveMember
from statemachine.outcome import Outcome
from tests.cluster.listening import listen
from tests.sim.script import Script


def test_the_first_leader_writes_down_who_founded_the_cluster(play: Script) -> None:
    """And with which journals: each of them in an entry of its own."""
    core = play.leader.core
    current = core.membership.current
    assert current.founded
    assert current.voters == {"n1", "n2", "n3"}
    assert current.journal_ids() == {member.node_id: member.kept.journal_id for member in play.sim.members}
    journal = core.journal
    kinds = [journal[position][0][:1] for position in range(len(journal))]
    assert kinds.count(MEMBERSHIP) == 4


def test_a_vote_or_acknowledgement_of_who_has_none_is_dropped(play: Script) -> None:
    learner = play.add_learner("n4")
    core = play.leader.core
    others = play.others(play.leader, learner)
    received: list[str] = []
    core.transport.setOnMessageReceivedCallback(lambda node, message: received.append(message["type"]))
    vote = {"type": "response_vote", "term": core.engine.term + 1}
    core.transport.receive("n4", vote)
    core.transport.receive("n9", vote)
    assert received == []
    core.transport.receive(others[0].node_id, vote)
    assert received == ["response_vote"]
    ack = {"type": "next_node_idx", "term": core.engine.term, "next_node_idx": 2, "reset": False, "success": True}
    ack["n"] = 1
    core.transport.receive("n9", dict(ack))
    assert received == ["response_vote"]
    core.transport.receive("n4", dict(ack))
    assert received == ["response_vote", "next_node_idx"]


def test_a_campaign_ends_when_the_voters_change(play: Script) -> None:
    core = play.others(play.leader)[0].core
    core.engine._SyncObj__raftState = 1
    assert core.engine.candidate
    core.reconfiguring.take_up()
    assert core.engine.candidate
    core.membership.current = type(core.membership.current)({})
    core.reconfiguring.take_up()
    assert not core.engine.candidate


def test_one_change_at_a_time_and_only_by_the_leader(play: Script) -> None:
    outcomes: list[Outcome | Exception] = []
    with pytest.raises(NotCommittedError) as elsewhere:
        play.others(play.leader)[0].core.membership.propose(AddMember("n4", "p", ""), outcomes.append)
    assert elsewhere.value.code == "no_leader"
    membership = play.leader.core.membership
    membership.propose(AddMember("n4", "p", ""), outcomes.append)
    with pytest.raises(MembershipRefusedError) as busy:
        membership.propose(AddMember("n5", "p", ""), outcomes.append)
    assert busy.value.code == "membership_busy"
    play.until(lambda: bool(outcomes))
    membership.propose(AddMember("n5", "p", ""), outcomes.append)
    with pytest.raises(MembershipRefusedError):
        membership.propose(RemoveMember(play.leader.node_id), outcomes.append)


def test_who_waits_hears_that_leadership_was_lost(play: Script) -> None:
    leader = play.leader
    outcomes: list[Outcome | Exception] = []
    play.cut([leader], play.others(leader))
    play.break_connections(leader)
    leader.core.membership.propose(AddMember("n4", "p", ""), outcomes.append)
    play.until(lambda: any(other.core.is_leader for other in play.others(leader)))
    play.write(next(other for other in play.others(leader) if other.core.is_leader))
    play.heal()
    play.until(lambda: bool(outcomes))
    assert isinstance(outcomes[0], NotCommittedError)


def test_the_leader_promotes_who_has_kept_up(play: Script) -> None:
    play.add_learner("n4")
    core = play.leader.core
    assert core.membership.current.learners == {"n4"}
    play.until(lambda: core.membership.current.is_voter("n4"))
    assert core.engine.is_voter("n4")


def test_a_learner_that_was_never_met_is_not_promoted(play: Script) -> None:
    outcomes: list[Outcome | Exception] = []
    membership = play.leader.core.membership
    membership.propose(AddMember("n4", "p", ""), outcomes.append)
    play.until(lambda: bool(outcomes))
    with pytest.raises(MembershipRefusedError) as refused:
        membership.propose(PromoteMember("n4"), outcomes.append)
    assert refused.value.code == "not_caught_up"
    assert refused.value.data == {"lag_entries": None, "lag_entries_max": 250}


def test_a_removed_member_hears_it_from_whoever_knows(play: Script) -> None:
    gone = play.others(play.leader)[0]
    heard = listen(play, "removed")
    play.change(RemoveMember(gone.node_id))
    play.until(lambda: gone.removed)
    assert gone.node_id in {to for _, to, _ in heard}
    assert not gone.up
