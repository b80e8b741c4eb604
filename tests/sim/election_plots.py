"""Scripts for votes: one that comes twice, one of a node that has forgotten everything, and terms that part."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from tests.sim.member import Member
from tests.sim.script import Script, script


def _candidate(play: Script, among: list[Member]) -> Member:
    """The first of these that campaigns. Its requests have not left: its disk does not have its vote yet."""
    play.until(lambda: any(member.core.engine.candidate for member in among))
    return next(member for member in among if member.core.engine.candidate)


def _heal(play: Script, here: list[Member], there: list[Member]) -> None:
    pairs = {(a.node_id, b.node_id) for a, b in product(here, there)}
    play.sim.hub.heal(pairs | {(b, a) for a, b in pairs})


def power_lost_with_a_vote() -> list[str]:
    """Of three the leader dies, and a follower whose disk stalls is asked for its vote; it loses power, and is asked by
    another in the same term."""
    with script() as play:
        old = play.leader
        old.crash(power=False)
        candidate = _candidate(play, play.others(old))
        voter = play.others(old, candidate)[0]
        voter.speed.stalled_until_s = play.sim.scheduler.now_s + 5.0
        play.until(lambda: voter.core.engine.term == candidate.core.engine.term)
        play.wait(0.05)
        voter.crash(power=True)
        voter.speed.stalled_until_s = 0.0
        play.cut([candidate], [old, voter])
        voter.start()
        old.start()
        play.until(lambda: old.core.engine.leading or voter.core.engine.leading)
        return play.finish()


def vote_that_comes_twice() -> list[str]:
    """Of five, two are cut off with a campaign; the other three elect somebody in the same term. Then the one vote that
    the candidate got comes once more, which no network of ours does by itself."""
    with script(nodes=5, seed=3) as play:
        old = play.leader
        old.crash(power=False)
        candidate = _candidate(play, play.others(old))
        voter, *rest = play.others(old, candidate)
        three = [old, *rest]
        play.cut([candidate, voter], three)
        old.start()
        term = candidate.core.engine.term
        play.until(lambda: any(member.core.is_leader for member in three))
        if play.leader.core.engine.term != term or voter.core.journal.getVotedForNodeId() != candidate.node_id:
            raise AssertionError("the two elections were not in one term")
        life = candidate.life
        assert life is not None
        life.run(lambda: candidate.receive(voter.node_id, {"type": "response_vote", "term": term}))
        play.wait(0.2)
        return play.finish()


def two_members_in_a_newer_term() -> list[str]:
    """A candidate reaches one of five with its new term, and dies; the old leader goes on with a majority. Both that
    know the new term must come back to the others."""
    with script(nodes=5, disk_s=0.002, seed=3) as play:
        old, (near, *three) = play.leader, play.others(play.leader)
        play.cut([old, near], three)
        play.break_connections(old)
        candidate = _candidate(play, three)
        told, spared = (member for member in three if member is not candidate)
        play.cut([candidate], [spared])
        play.until(lambda: told.core.engine.term == candidate.core.engine.term)
        candidate.crash(power=False)
        play.cut([told], [spared])
        _heal(play, [old, near], [told, spared])
        play.wait(3.0)
        if not old.core.engine.leading and not any(member.core.is_leader for member in play.sim.members if member.up):
            play.sim.checks.violated("all", "there is no leader")
        return play.finish()


def empty_node_that_one_never_met() -> list[str]:
    """Of five new nodes one has helped to commit, and is emptied; one that never met it, and has nothing, asks for its
    vote, while all that know better are down. What it forgot must not be forgotten by the cluster."""
    with script(nodes=5, begun=False) as play:
        first, second, emptied, stranger, fifth = play.sim.members
        play.cut([emptied], [stranger])
        for member in play.sim.members:
            member.start()
        play.until(lambda: all(len(member.kept.journal_ids) >= 3 for member in play.sim.members))
        three = [first, second, emptied]
        play.cut(three, [stranger, fifth])
        play.until(lambda: any(member.core.is_leader for member in three))
        known = {member.node_id for member in three}
        play.until(lambda: all(known <= set(member.core.membership.current.journal_ids()) for member in three))
        play.write(play.leader)
        play.until(lambda: emptied.core.engine.applied_index == play.leader.core.journal.last_index)
        if stranger.core.journal.last_index > 1 or fifth.core.journal.last_index > 1:
            raise AssertionError("the two have something of what is to be lost")
        first.crash(power=False)
        second.crash(power=False)
        before = emptied.empty_now()
        emptied.start()
        _heal(play, [emptied], [stranger])
        play.wait(4.0)
        first.start()
        second.start()
        play.heal()
        others = play.others(emptied)
        play.until(lambda: emptied.refused or bool(play.sim.checks.violations))
        if not play.sim.checks.violations:
            # The stranger knows it by its empty journal, until it has what the others have decided.
            play.until(lambda: any(member.core.is_leader for member in others))
            play.write(play.leader)
            play.until(lambda: all(member.core.state.position == first.core.state.position for member in others))
            emptied.kept, emptied.refused = before, False
            emptied.start()
        return play.finish()


PLOTS: dict[str, Callable[[], list[str]]] = {
    plot.__name__: plot
    for plot in (
        power_lost_with_a_vote,
        vote_that_comes_twice,
        two_members_in_a_newer_term,
        empty_node_that_one_never_met,
    )
}
