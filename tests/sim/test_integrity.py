"""What guards against a node that is wrong within itself: without any single guard its plot ends badly."""

from __future__ import annotations

import pytest

from tests.sim.mutations import Change, Mutation, mutated
from tests.sim.plots import PLOTS

_AGREEMENT, _REBUILDING, _INTEGRITY = "cluster.agreement", "cluster.rebuilding", "cluster.integrity"

MUTATIONS = (
    Mutation(
        "the content of states is not compared, only what was computed",
        (Change(_AGREEMENT, "Agreement._found", "position.chain + piece.digest + piece.next_key", "position.chain"),),
        plot="state_of_a_follower_changes_by_itself",
    ),
    Mutation(
        "a check looks wherever the state stands",
        (Change(_AGREEMENT, "Agreement.stop_at", "default=last)", "default=last) and last"),),
        plot="a_check_among_many_entries",
    ),
    Mutation(
        "only the first piece of the state is ever compared",
        (Change(_AGREEMENT, "Agreement._found", "self._cursor = piece.next_key", "pass"),),
        plot="state_changes_far_behind",
    ),
    Mutation(
        "who is told that its state differs goes on",
        (Change(_AGREEMENT, "Agreement.on_verdict", 'self._differ(message["index"])', "pass"),),
        plot="state_of_a_follower_changes_by_itself",
    ),
    Mutation(
        "who differs is in service again after a restart",
        (Change(_INTEGRITY, "Integrity._differs", "core.owner.state_differs(text)", "pass"),),
        plot="state_of_a_follower_changes_by_itself",
    ),
    Mutation(
        "a leader that differs goes on to lead",
        (
            Change("cluster.periodic", "Periodic.fit", "self._core.integrity.out_of_service", "False"),
            Change(_INTEGRITY, "Integrity._differs", "core.engine.transferLeadership()", "pass"),
        ),
        plot="state_of_the_leader_changes_by_itself",
    ),
    Mutation(
        "who differs takes writes, and answers with outcomes of its own",
        (Change(_INTEGRITY, "Integrity.check_writable", "if self.out_of_service:", "if False:"),),
        plot="state_of_a_follower_changes_by_itself",
    ),
    Mutation(
        "one of two that differ is taken for the right one",
        (Change(_AGREEMENT, "Agreement._answered", "2 * votes.count(right) <= len(voters)", "False"),),
        plot="states_of_two_differ",
    ),
    Mutation(
        "who has lost its log votes",
        (Change("cluster.peers", "Peers.may_vote", "if self._rebuilding:", "if False:"),),
        plot="vote_of_a_rebuilt_member",
    ),
    Mutation(
        "who has lost its log is counted",
        (Change(_INTEGRITY, "Integrity.peer_connected", 'if hello.get("rebuilding"):', "if False:"),),
        plot="acknowledgement_of_a_rebuilt_member",
    ),
    Mutation(
        "the acknowledgements of who has lost its log are counted",
        (Change("cluster.transport", "GuardedTransport._deliver_ack", "peer in self.uncounted", "False"),),
        plot="acknowledgement_of_a_rebuilt_member",
    ),
    Mutation(
        "the goal of who has lost its log is what is committed already",
        (Change(_REBUILDING, "Goals.on_wanted", "core.engine.append_no_op()", "core.engine.commit_index"),),
        plot="acknowledgement_of_a_rebuilt_member",
    ),
    Mutation(
        "an answer of who has lost its log confirms a leader",
        (Change("cluster.contact", "Contact.on_pong", "self._others - self.uncounted", "self._others"),),
        plot="read_at_a_deposed_leader",
    ),
    Mutation(
        "who is refused a pre-vote for its old term keeps it",
        (Change("cluster.transport", "GuardedTransport.follow_term", "self.newer_term(peer, term)", "pass"),),
        plot="longer_log_in_an_older_term",
    ),
    Mutation(
        "what grows is taken while space is short",
        (Change(_INTEGRITY, "Integrity.check_writable", "self.free_space.read_only", "False"),),
        plot="space_is_short_on_a_follower",
    ),
    Mutation(
        "all writes are taken again as soon as space is not below the limit",
        (Change("cluster.free_space", "FreeSpace._judge", "self._min_free_bytes * _ENOUGH", "self._min_free_bytes"),),
        plot="space_is_short_on_a_follower",
    ),
    Mutation(
        "a disk that is full for a snapshot stops the node",
        (Change("cluster.snapshots", "Snapshots._failed", "not out_of_space(error)", "True"),),
        plot="disk_is_full_for_a_snapshot",
    ),
    Mutation(
        "a disk that is full for an image stops the node",
        (Change("cluster.snapshots", "Snapshots._appended", "error is not None and out_of_space(error)", "False"),),
        plot="disk_is_full_for_a_snapshot",
    ),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_missing_guard_is_noticed(mutation: Mutation) -> None:
    assert PLOTS[mutation.plot]() == []
    with mutated(mutation):
        assert _ends_badly(mutation.plot)


def _ends_badly(plot: str) -> bool:
    """It finds a violation, or never comes to its end."""
    try:
        return bool(PLOTS[plot]())
    except (AssertionError, IndexError):
        return True
