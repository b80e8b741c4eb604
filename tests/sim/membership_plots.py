"""Scripts for the rules of membership: each goes through the moment at which one of them matters (see `plots.py`)."""

from __future__ import annotations

from collections.abc import Callable

from cluster.replica import PromoteMember, RemoveMember
from tests.sim.member import Member
from tests.sim.membership import Asking
from tests.sim.script import Script, script


def one_three_five_and_back() -> list[str]:
    """A cluster of one grows to three and five, and shrinks to three and one, and is written to at every step."""
    with script(nodes=1) as play:
        for node_id in ("n2", "n3", "n4", "n5"):
            play.write(play.add(node_id))
        play.until(play.sim.equal)
        for _ in range(4):
            play.remove(play.leader)  # which hands over, each time
            play.until(lambda: any(member.core.is_leader for member in play.sim.members))
            play.write(play.leader)
        if len(play.sim.members) != 1 or len(play.sim.gone) != 4:
            play.sim.checks.violated("all", "whoever was removed did not stop")
        return play.finish()


def removed_while_it_was_away() -> list[str]:
    """A node is removed while it is down; started again it hears of that, whoever should dial whom."""
    with script(nodes=4) as play:
        first, second, _, last = play.sim.members
        for member in (last, first):
            if play.leader is member:
                play.hand_over(second)
            member.crash(power=False)
            play.change(RemoveMember(member.node_id))
            member.start()
            play.wait(6.0)
            if not member.removed:
                play.sim.checks.violated(member.node_id, "was removed, and goes on")
        return play.finish()


def leader_that_finds_itself_removed() -> list[str]:
    """Of two, one is removed; it alone has that entry, is elected, and commits it. The other must not need it after."""
    with script(nodes=2) as play:
        leader, other = play.leader, play.others(play.leader)[0]
        leader.speed.stalled_until_s = play.sim.scheduler.now_s + 5.0
        last = leader.core.journal.last_index
        Asking(play.sim, RemoveMember(other.node_id), lambda _: None, tries_max=1).ask()
        play.until(lambda: other.core.journal.durable_index == last + 1)
        leader.crash(power=True)
        leader.speed.stalled_until_s = 0.0
        leader.start()
        play.wait(5.0)
        if not other.removed:
            play.sim.checks.violated(other.node_id, "was removed, and goes on")
        return play.finish()


def removal_forgotten_by_the_leader() -> list[str]:
    """A leader removes the other of two, and loses power with all that its disk does not have by then."""
    with script(nodes=2) as play:
        leader, other = play.leader, play.others(play.leader)[0]
        Asking(play.sim, RemoveMember(other.node_id), lambda _: None, tries_max=1).ask()
        play.until(lambda: not leader.core.membership.current.is_voter(other.node_id))
        leader.speed.stalled_until_s = play.sim.scheduler.now_s + 5.0
        play.begin_write(leader)
        play.until(lambda: other.core.journal.durable_index > leader.core.journal.durable_index)
        leader.crash(power=True)
        leader.speed.stalled_until_s = 0.0
        leader.start()
        play.wait(3.0)
        return play.finish()


def learner_promoted_by_a_leader_that_dies() -> list[str]:
    """A cluster of one promotes its learner, and dies before that one hears of it: it must vote all the same."""
    with script(nodes=1) as play:
        first = play.leader
        learner = play.add_learner("n2")
        play.cut([first], [learner], both=False)
        play.change(PromoteMember("n2"))
        first.crash(power=False)
        play.heal()
        first.start()
        return play.finish()


def learner_when_the_leader_is_gone() -> list[str]:
    """Leaders die again and again: a learner has everything, and yet it is one of the voters who comes next."""
    with script() as play:
        play.add_learner("n4")
        for _ in range(6):
            play.until(play.sim.equal)
            old = play.leader
            old.crash(power=False)
            play.until(lambda: any(member.up and member.core.is_leader for member in play.sim.members))
            old.start()
        return play.finish()


def _five(play: Script, leader: Member) -> tuple[Member, Member]:
    """Two learners that have everything."""
    made = play.add_learner("n4"), play.add_learner("n5")
    play.until(play.sim.equal)
    assert play.leader is leader
    return made


def _divide(play: Script, here: tuple[Member, ...], there: tuple[Member, ...]) -> list[str]:
    """Writes on one side, and elections on the other: only one of them may decide anything."""
    play.cut(list(here), list(there))
    for member in there:
        play.break_connections(member)
    for _ in range(6):
        for member in (here[0], there[0]):
            play.begin_write(member, timeout_s=0.5)
        play.wait(0.6)
    play.heal()
    return play.finish()


def second_change_before_the_first() -> list[str]:
    """Two promotions are asked for at once; one follower has them, and does not know that they are committed."""
    with script() as play:
        leader, (second, third) = play.leader, play.others(play.leader)
        fourth, fifth = _five(play, leader)
        play.cut([leader], [third])
        wanted = leader.core.journal.last_index + 1
        for node_id in ("n4", "n5"):
            Asking(play.sim, PromoteMember(node_id), lambda _: None, tries_max=1).ask()
            leader.core.pump()
        last = leader.core.journal.last_index
        assert last >= wanted
        play.until(lambda: second.core.journal.last_index == last)
        play.cut([leader], [second], both=False)
        play.until(lambda: leader.core.engine.applied_index == last)
        return _divide(play, (leader, fourth, fifth), (second, third))


def change_by_a_new_leader() -> list[str]:
    """A leader is elected with an uncommitted promotion in its log, and is asked for another one at once."""
    with script() as play:
        old, (second, third) = play.leader, play.others(play.leader)
        fourth, fifth = _five(play, old)
        play.cut([second, third], [old], both=False)
        play.cut([fourth, fifth], [old])
        Asking(play.sim, PromoteMember("n4"), lambda _: None, tries_max=1).ask()
        old.core.pump()
        play.until(lambda: second.core.journal.last_index == old.core.journal.last_index)
        play.until(lambda: third.core.journal.last_index == old.core.journal.last_index)
        play.cut([old], [second, third, fourth, fifth])
        play.until(lambda: second.core.engine.leading or third.core.engine.leading)
        new, other = (second, third) if second.core.engine.leading else (third, second)
        # Its first entry is acknowledged late; its questions about clocks are answered at once.
        other.speed.stalled_until_s = play.sim.scheduler.now_s + 0.3
        play.until(lambda: new.core.entry_time.known)
        asked = Asking(play.sim, PromoteMember("n5"), lambda _: None, tries_max=1)
        assert new.life is not None
        new.life.run(lambda: asked.at(new))
        new.core.pump()
        last = new.core.journal.last_index
        play.until(lambda: other.core.journal.last_index == last)
        play.cut([new], [other], both=False)
        play.cut([fourth, fifth], [other])
        play.until(lambda: new.core.engine.applied_index == last)
        play.break_connections(old)  # with the acknowledgements that were held back
        play.sim.hub.heal({(a.node_id, b.node_id) for a in (old,) for b in (other,)})
        play.sim.hub.heal({(b.node_id, a.node_id) for a in (old,) for b in (other,)})
        return _divide(play, (new, fourth, fifth), (other, old))


def campaign_before_the_changes_are_applied() -> list[str]:
    """Two of five lose power, and with it their states: until those are built again they know three members."""
    with script() as play:
        leader, (second, third) = play.leader, play.others(play.leader)
        for _ in range(120):
            play.begin_write(leader)
            play.wait(0.01)
        fourth, fifth = play.add("n4"), play.add("n5")
        play.until(play.sim.equal)
        play.wait(1.5)
        play.cut([leader, fourth, fifth], [second, third])
        for member in (second, third):
            member.crash(power=True)
            member.turn_s = 0.5  # so that the state is built again one entry a tick
            member.start()
        return _divide(play, (leader, fourth, fifth), (second, third))


def power_lost_with_changes_in_the_log() -> list[str]:
    """Two of three get two promotions, and lose power, and with it what they had applied.

    From what is on their disks they must know that the first is committed, or they would be a majority of what was.
    """
    with script() as play:
        leader, (second, third) = play.leader, play.others(play.leader)
        fourth, fifth = _five(play, leader)
        play.change(PromoteMember("n4"))
        play.change(PromoteMember("n5"))
        play.until(lambda: leader.core.journal.last_index <= second.core.journal.durable_index)
        play.until(lambda: leader.core.journal.last_index <= third.core.journal.durable_index)
        play.cut([leader, fourth, fifth], [second, third])
        for member in (second, third):
            member.crash(power=True)
            member.start()
        return _divide(play, (leader, fourth, fifth), (second, third))


def removal_that_would_leave_no_quorum() -> list[str]:
    """One of three is down, and somebody wants to remove the other follower."""
    with script() as play:
        leader, (second, third) = play.leader, play.others(play.leader)
        third.crash(power=False)
        play.wait(1.5)
        Asking(play.sim, RemoveMember(second.node_id), lambda _: None, tries_max=5).ask()
        play.wait(1.5)
        results = play.begin_write(leader)
        play.wait(2.5)
        if not results or isinstance(results[0], Exception):
            play.sim.checks.violated(leader.node_id, "nobody can write after a removal")
        return play.finish()


def emptied_node_that_nobody_met() -> list[str]:
    """The others have forgotten a node's journal, as if they had never met it; its data directory is emptied."""
    with script() as play:
        leader, (second, third) = play.leader, play.others(play.leader)
        before = third.empty_now()
        for member in (leader, second):
            member.stop()
            member.kept.journal_ids.pop(third.node_id)
            member.start()
        play.until(lambda: leader.core.is_leader or second.core.is_leader)
        third.start()
        play.wait(2.0)
        if not third.refused:
            play.sim.checks.violated(third.node_id, "comes with an empty directory, and is let in")
        third.crash(power=False)
        third.kept, third.refused = before, False
        return play.finish()


def lone_voter_with_a_slow_disk() -> list[str]:
    """The only voter's disk stalls, and it loses power; its learner must not have applied what that disk never had."""
    with script(nodes=1) as play:
        leader = play.leader
        play.add_learner("n2")
        leader.speed.stalled_until_s = play.sim.scheduler.now_s + 5.0
        play.begin_write(leader)
        play.wait(0.5)
        leader.crash(power=True)
        leader.speed.stalled_until_s = 0.0
        leader.start()
        play.until(lambda: leader.core.is_leader)
        play.write(leader)
        return play.finish()


MEMBERSHIP_PLOTS: dict[str, Callable[[], list[str]]] = {
    plot.__name__: plot
    for plot in (
        one_three_five_and_back,
        removed_while_it_was_away,
        leader_that_finds_itself_removed,
        removal_forgotten_by_the_leader,
        learner_promoted_by_a_leader_that_dies,
        learner_when_the_leader_is_gone,
        second_change_before_the_first,
        change_by_a_new_leader,
        campaign_before_the_changes_are_applied,
        power_lost_with_changes_in_the_log,
        removal_that_would_leave_no_quorum,
        emptied_node_that_nobody_met,
        lone_voter_with_a_slow_disk,
    )
}
