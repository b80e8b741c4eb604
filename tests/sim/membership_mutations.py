"""The rules of membership, and the changes that take them away (see `mutations.py`)."""

from __future__ import annotations

from tests.sim.mutations import Change, Mutation

_MEMBERSHIP = "cluster.membership"

MEMBERSHIP_MUTATIONS = (
    Mutation(
        "a second change is appended before the first is applied",
        (
            Change(
                _MEMBERSHIP,
                "Membership._may_append",
                "self._pending is None and core.is_leader",
                "core.is_leader",
            ),
        ),
        plot="second_change_before_the_first",
    ),
    Mutation(
        "a change is appended before the leader's own first entry is committed",
        (
            Change(_MEMBERSHIP, "Membership._may_append", "core.is_leader", "core.engine.leading"),
            Change(_MEMBERSHIP, "Membership.propose", "not self._core.is_leader", "not self._core.engine.leading"),
            Change(_MEMBERSHIP, "Membership.append", "not core.is_leader", "not core.engine.leading"),
            Change(_MEMBERSHIP, "Membership._lag", " if match_index >= core.engine.no_op_index else None", ""),
        ),
        plot="change_by_a_new_leader",
    ),
    Mutation(
        "a node campaigns before it has applied a committed change",
        (Change("cluster.election", "Elections.before_tick", " or self._members_unapplied()", ""),),
        plot="campaign_before_the_changes_are_applied",
    ),
    Mutation(
        "a change is on disk without the commit of the one before",
        (Change("cluster.journal.log", "DurableLog.before_seal", "self.write_commit()", "pass"),),
        plot="power_lost_with_changes_in_the_log",
    ),
    Mutation(
        "a restart does not know what was committed",
        (
            Change(
                "cluster.journal.journal",
                "Journal.getRaftCommitIndex",
                "max(1, min(self._log.hard.commit_index, self._log.last_index))",
                "1",
            ),
        ),
        plot="power_lost_with_changes_in_the_log",
    ),
    Mutation(
        "a learner campaigns",
        (Change("cluster.election", "Elections.before_tick", "not self.is_voter or ", ""),),
        plot="learner_when_the_leader_is_gone",
    ),
    Mutation(
        "a learner does not vote when it is asked",
        (
            Change(
                "cluster.transport",
                "GuardedTransport._receive_vote_request",
                "elections is None or",
                "elections is None or not elections.is_voter or",
            ),
        ),
        plot="learner_promoted_by_a_leader_that_dies",
    ),
    Mutation(
        "a change is made that leaves no live quorum",
        (Change(_MEMBERSHIP, "Membership._check_quorum", "if not voters or len(live) < quorum:", "if not voters:"),),
        plot="removal_that_would_leave_no_quorum",
    ),
    Mutation(
        "journals are known to those only who met them",
        (Change("cluster.peers", "Peers.refuse", "self._pinned.get(peer_id) or ", ""),),
        plot="emptied_node_that_nobody_met",
    ),
    Mutation(
        "a removed node is not told so",
        (
            Change("cluster.peers", "Peers.refuse", "if peer_id in self.removed:", "if False:"),
            Change("cluster.reconfiguring", "Reconfiguring._reconnect", 'core.send(peer, {"type": "removed"})', "pass"),
        ),
        plot="removed_while_it_was_away",
    ),
    Mutation(
        "a voter is removed in one step",
        (Change("statemachine.members", "after_removal", "LEAVING if role == VOTER else REMOVED", "REMOVED"),),
        plot="leader_that_finds_itself_removed",
    ),
    Mutation(
        "nobody but a leader tells what is committed",
        (Change("cluster.election", "Elections._learn", "self._engine.know_committed(index)", "pass"),),
        plot="removal_forgotten_by_the_leader",
    ),
    Mutation(
        "a lone voter tells of commits before its disk has them",
        (
            Change(
                "cluster.transport",
                "GuardedTransport._send_append",
                'min(message["commit_index"], self._journal.durable_index)',
                'message["commit_index"]',
            ),
        ),
        plot="lone_voter_with_a_slow_disk",
    ),
    Mutation(
        "an acknowledgement of somebody who was removed is taken",
        (
            Change("cluster.transport", "GuardedTransport._receive_ack", "if not engine.counts(peer):", "if False:"),
            Change("cluster.transport", "GuardedTransport._deliver_held_acks", " and engine.counts(peer)", ""),
        ),
        focus="members",
        first=61,
        seeds=80,
    ),
)
