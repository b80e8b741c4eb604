"""A member that has lost its log: whom it listens to, and what it may do in the term in which it came back."""

from __future__ import annotations

from tests.cluster.listening import listen
from tests.sim.member import Member
from tests.sim.script import Script, script


def _forgetful(play: Script) -> Member:
    """A follower without its log, which is about to start."""
    member = play.others(play.leader)[0]
    play.write(play.leader)
    member.crash(power=False)
    member.resync()
    return member


def test_it_votes_no_more_in_the_term_in_which_it_came_back() -> None:
    with script() as play:
        member = _forgetful(play)
        member.start()
        play.until(lambda: not member.kept.rebuilding)
        leader, term = play.leader.node_id, member.core.engine.term
        assert (member.core.journal.getCurrentTerm(), member.core.journal.getVotedForNodeId()) == (term, leader)
        # That is on its disk before it is a voter again.
        member.crash(power=True)
        member.start()
        assert member.core.journal.getVotedForNodeId() == leader
        assert play.finish() == []


def test_its_goal_is_an_entry_that_is_newer_than_its_return() -> None:
    with script() as play:
        member = _forgetful(play)
        goals = listen(play, "rebuild_goal")
        before = play.leader.core.journal.last_index
        member.start()
        play.until(lambda: not member.kept.rebuilding)
        assert goals[0][2]["index"] > before
        assert play.finish() == []


def test_a_goal_of_another_leadership_or_run_is_passed_over() -> None:
    with script() as play:
        member = _forgetful(play)
        play.cut([play.leader], play.others(play.leader))
        member.start()
        rebuilding, engine = member.core.integrity.rebuilding, member.core.engine
        for sender, term, number in (("n9", engine.term, rebuilding._number), (play.leader.node_id, 99, 1)):
            rebuilding.on_goal(sender, {"n": number, "term": term, "index": 1})
        rebuilding.tick()
        assert rebuilding.active
        assert member.kept.rebuilding
        play.heal()
        assert play.finish() == []


def test_of_two_that_lost_their_log_none_comes_back_alone() -> None:
    """One node is no majority beside them: what it has may not be all."""
    with script() as play:
        forgetful = play.others(play.leader)
        play.write(play.leader)
        for member in forgetful:
            member.crash(power=False)
            member.resync()
            member.start()
        play.wait(5.0)
        assert [member.kept.rebuilding for member in forgetful] == [True, True]
        assert not any(member.core.is_leader for member in forgetful)


def test_leadership_is_not_handed_to_it() -> None:
    with script() as play:
        leader, member = play.leader, _forgetful(play)
        other = next(other for other in play.others(leader) if other is not member)
        play.cut([other], [leader, member])
        member.start()
        play.until(lambda: member.node_id in leader.core.transport.connected)
        member.core.transport.receive(leader.node_id, {"type": "timeout_now", "term": leader.core.engine.term})
        play.wait(1.0)
        assert not member.core.engine.leading
        play.heal()
        assert play.finish() == []
