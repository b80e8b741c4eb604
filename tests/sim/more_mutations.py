"""Guards of the journal, of what comes from outside, and of leases, taken away as in `mutations.py`."""

from __future__ import annotations

from tests.sim.mutations import MUTATIONS, Change, Mutation
from tests.sim.queue_mutations import QUEUES

_BACK_OFF = Change(
    "cluster.transport",
    "GuardedTransport.send",
    'message["next_node_idx"] = self._back_off(message["next_node_idx"])',
    "pass",
)

_TORN_RECORD = Change("cluster.journal.recovery", "parse_group", " or crc32(view[cursor + 4 : stop], salt) != crc", "")
_DAMAGED_ENTRY = Change(
    "cluster.journal.reader", "parse_entry", " or crc32(data[position + 4 : stop], salt) != crc", ""
)

REPLICATION = (
    Mutation(
        "H2: a repeated message cuts the log",
        (
            Change(
                "cluster.journal.journal",
                "Journal.deleteEntriesFrom",
                "self._last = min(self._last, self._log.first_index + entryFrom - 1)",
                "self._last = min(self._last, self._log.first_index + entryFrom - 1)\n"
                "    self._log.truncate(self._last + 1)",
            ),
            Change(
                "cluster.transport",
                "GuardedTransport._deliver_ack",
                "engine.set_next_index(peer, max(before, engine.next_index(peer)))",
                "pass",
            ),
        ),
        plot="backlog_in_many_messages",
    ),
    Mutation(
        "H16: a reset that answers an older append counts",
        (
            # A reset that goes back by whole terms comes to an end by itself: the guard is needed by those that do not.
            _BACK_OFF,
            Change(
                "cluster.transport",
                "GuardedTransport._deliver_ack",
                "if number <= self._reset_floor.get(peer, -1):",
                "if False:",
            ),
        ),
        plot="divergent_follower_and_a_backlog",
    ),
    Mutation(
        "a log that was set back is let in",
        (
            Change(
                "cluster.peers",
                "Peers.refuse",
                'hello["last_index"] < self._held_at_least.get(peer_id, 0)',
                "False",
            ),
        ),
        plot="directory_that_was_set_back",
    ),
    Mutation(
        "a read joins a round that left before it",
        (Change("cluster.read_index", "ReadIndex.confirmed", "asked.probe <= probe", "True"),),
        plot="read_at_a_leader_cut_off_on_one_side",
    ),
)

JOURNAL = (
    Mutation(
        "a failed fsync is taken for a good one",
        (Change("cluster.journal.worker", "Worker._finish", "self.report(error)", "done()"),),
        focus="disks",
    ),
    Mutation(
        "what a restart finds counts before it is on disk",
        (
            Change("cluster.journal.opening", "_repair", "disk.sync(segment_name(last.segment))", "pass"),
            Change("cluster.journal.writer", "GroupWriter.flush_blocking", "if mark:", "if mark and self.end == 0:"),
        ),
        plot="killed_between_write_and_fsync",
    ),
    Mutation(
        "what a failed fsync left in memory is not written again",
        (
            Change(
                "cluster.journal.opening",
                "_repair",
                "disk.write(segment_name(last.segment), last.offset, last.data)",
                "pass",
            ),
        ),
        plot="restarted_after_a_failed_fsync",
    ),
    Mutation(
        "a torn record is taken for a whole one when the log is opened",
        (_TORN_RECORD,),
        plot="power_lost_in_the_middle_of_entries",
    ),
    Mutation(
        "damage to an old entry is not noticed, neither when the log is opened nor when the entry is read",
        (_TORN_RECORD, _DAMAGED_ENTRY),
        plot="damaged_while_it_was_down",
    ),
    Mutation(
        "an entry that is read again is not checked",
        (_DAMAGED_ENTRY,),
        plot="damaged_while_it_leads",
    ),
    Mutation(
        "a new segment's name is not made durable",
        (
            Change("cluster.journal.writer", "GroupWriter._steps", ", disk.sync_directory]", "]"),
            Change("cluster.journal.segments", "Segments.prepare_spare", "self.disk.sync_directory,", ""),
            Change("cluster.journal.segments", "Segments.delete", ", self.disk.sync_directory]", "]"),
        ),
        plot="power_after_new_segments",
    ),
    Mutation(
        "a vote needs room on the disk",
        (Change("cluster.journal.segments", "Segments.prepare_spare", "if not self._reserving:", "if False:"),),
        plot="votes_on_a_full_disk",
    ),
)

VOTES = (
    Mutation(
        "H19: a vote that comes twice counts twice",
        (Change("cluster.transport", "GuardedTransport._receive_vote", "vote in self._votes or ", ""),),
        plot="vote_that_comes_twice",
    ),
    Mutation(
        "H20: nobody tells an old leader of the newer term",
        (
            Change(
                "cluster.transport",
                "GuardedTransport._receive_append",
                'self._network_send(peer, {"type": "newer_term", "term": engine.term})',
                "pass",
            ),
        ),
        plot="two_members_in_a_newer_term",
    ),
    Mutation(
        "an empty node votes for whoever asks first",
        (
            Change(
                "cluster.peers",
                "Peers.may_vote",
                "not self._fresh or len(self._met) >= min(majority, len(self.members) - 1)",
                "True",
            ),
        ),
        plot="empty_node_that_one_never_met",
    ),
)

OUTSIDE = (
    Mutation(
        "a message is believed to have its form",
        (Change("cluster.inbound", "Inbound._message", "check_message(message)", "pass"),),
        plot="every_kind_of_nonsense",
    ),
    Mutation(
        "H12: an entry of any type is taken",
        (
            Change(
                "cluster.messages",
                "_check_entries",
                'if entry[0][:1] not in (b"\\x00", b"\\x01", b"\\x10"):',
                "if False:",
            ),
        ),
        plot="every_kind_of_nonsense",
    ),
    Mutation(
        "H7: a command that meets a defect stops its node",
        (
            Change(
                "statemachine.machine",
                "_Entry.command",
                "self.meta.internal_errors += 1",
                "raise",
            ),
        ),
    ),
    Mutation(
        "a key is not looked up",
        (Change("statemachine.idempotency", "check", "record.expires_ms > time_ms", "False"),),
    ),
    Mutation(
        "the feed leaves out what came before in its entry",
        (
            Change(
                "statemachine.changes",
                "append",
                "first_revision, time_ms, changes)",
                "meta.revision, time_ms, changes)",
            ),
        ),
    ),
)

LEASES = (
    Mutation(
        "late ticks are counted in full",
        (
            Change(
                "node.duties.lease_clock",
                "LeaseClock._tick",
                "passed_s if passed_s <= self._step_s_max else self._tick_s",
                "passed_s",
            ),
        ),
        plot="leader_that_stutters",
    ),
    Mutation(
        "a new leader gives no grace",
        (Change("node.duties.leader_memory", "LeaderMemory.build", "self._started.fallback_ms / 1000", "0.0"),),
        plot="renewed_by_a_leader_on_its_way_out",
    ),
    Mutation(
        "what a leader decided happens under the next one",
        (Change("node.duties.leadership", "Leadership._propose", ", self._term)", ")"),),
        plot="decision_of_a_deposed_leader",
    ),
    Mutation(
        "a lease is expired although it is another attempt's by now",
        (Change("statemachine.task_timers", "_believed", "task.attempt != item.attempt or ", ""),),
        plot="expiry_that_comes_too_late",
    ),
)

ALL = MUTATIONS + REPLICATION + JOURNAL + VOTES + OUTSIDE + LEASES + QUEUES
