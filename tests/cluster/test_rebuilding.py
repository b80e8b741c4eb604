"""A member that has lost its log: whom it listens to, and what it may do in the term in which it came back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.ports import Executor
from tests.cluster.listening import listen
from tests.sim.member import Member
from tests.sim.script import Script, script


class Held:
    """An executor that keeps what it is given."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Sequence[Callable[[], None]], Callable[[BaseException | None], None]]] = []

    def submit(self, steps: Sequence[Callable[[], None]], done: Callable[[BaseException | None], None]) -> None:
        """Not yet."""
        self._jobs.append((steps, done))

    def pass_on(self, executor: Executor) -> None:
        """Give all of it to another one."""
        for steps, done in self._jobs:
            executor.submit(steps, done)


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
        journal, other = member.core.journal, play.others(play.leader, member)[0]
        term = journal.getCurrentTerm()
        # Somebody who campaigned then, and has all that there was before.
        begun = play.leader.core.engine.no_op_index
        request = {
            "type": "request_vote",
            "term": term,
            "last_log_index": begun - 1,
            "last_log_term": journal.term_at(begun - 1) or 0,
            "transfer": True,  # or it would refuse for its leader's sake
        }
        votes = listen(play, "response_vote")
        member.receive(other.node_id, request)
        play.wait(0.1)
        assert (journal.getVotedForNodeId(), votes) == (None, [])
        # A newer term is another matter.
        member.receive(other.node_id, request | {"term": term + 1, "last_log_index": 1 << 40, "last_log_term": term})
        play.wait(0.1)
        assert [name for name, _, _ in votes] == [member.node_id]


def test_its_goal_is_an_entry_that_is_newer_than_its_return() -> None:
    with script() as play:
        member = _forgetful(play)
        goals = listen(play, "rebuild_goal")
        before = play.leader.core.journal.last_index
        member.start()
        play.until(lambda: not member.kept.rebuilding)
        assert goals[0][2]["index"] > before
        assert play.finish() == []


def test_it_does_not_come_back_before_its_log_is_on_its_disk() -> None:
    """Its goal comes with a snapshot, which is applied before the log that begins behind it is written."""
    with script() as play:
        member, leader = _forgetful(play), play.leader
        play.snapshot(leader)
        goals = listen(play, "rebuild_goal")
        member.start()
        play.until(lambda: member.kept.snapshots.fetching is not None)
        play.cut([leader], [member], both=False)
        play.until(lambda: bool(goals))
        play.write(leader)
        play.snapshot(leader)
        play.heal()
        play.until(lambda: member.core.snapshots.ready is not None)
        worker = member.core.journal._log.worker
        executor, held = worker._executor, Held()
        assert executor is not None
        worker._executor = held
        play.until(lambda: member.core.engine.applied_index >= goals[0][2]["index"])
        play.wait(1.0)
        assert member.kept.rebuilding
        worker._executor = executor
        held.pass_on(executor)
        play.until(lambda: not member.kept.rebuilding)
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
