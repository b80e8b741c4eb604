"""Each guard of cluster/, and the change that takes it away: the simulator must notice.

A mutation is a replacement in the source of one function; if the function no longer reads like that, it fails loudly.
`plot`: the script in `plots.py` that goes through the moment at which it matters. Without one, seeds do: at least one
of `seeds` seeds from `first` on notices, with that `focus` (chosen with `python -m tests.sim.search`).
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import linecache
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """In `module`, in the function or method `name`, `old` becomes `new`. A function is changed for `module` alone."""

    module: str
    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """A guard taken away."""

    name: str
    changes: tuple[Change, ...]
    first: int = 1
    seeds: int = 40
    nodes: int = 3
    focus: str = "all"
    plot: str = ""


@contextmanager
def changed(change: Change) -> Iterator[None]:
    """The function as changed, for a while."""
    module = importlib.import_module(change.module)
    owner: object = module
    *path, name = change.name.split(".")
    for part in path:
        owner = getattr(owner, part)
    before = inspect.getattr_static(owner, name)
    function = before.fget if isinstance(before, property) else before
    if function is None:
        raise LookupError(f"{change.module}.{change.name} has no source")
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(change.old) != 1:
        raise LookupError(f"{change.module}.{change.name} does not hold this once: {change.old}")
    source = source.replace(change.old, change.new)
    place = f"{change.module}.{change.name} with {change.new}"
    # So that a second change of the same function finds the first one's source.
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    code = compile(source, place, "exec", __future__.annotations.compiler_flag)
    made: dict[str, object] = {}
    # Its own module's names, also where it is found under the name that another module has for it.
    exec(code, getattr(function, "__globals__", module.__dict__), made)
    setattr(owner, name, made[name])
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """The cluster without that guard, for a while."""
    with ExitStack() as stack:
        for change in mutation.changes:
            stack.enter_context(changed(change))
        yield


_TRANSPORT = "cluster.transport"
_SEND = "GuardedTransport.send"
_HOLD = "self._outbox.hold(peer, self._journal.written_sequence, message)"

MUTATIONS = (
    Mutation(
        "H1: a message without a log match commits",
        (
            Change(_TRANSPORT, "GuardedTransport._receive_append", 'message["commit_index"] = 0', "pass"),
            Change(
                _TRANSPORT,
                "GuardedTransport.heartbeat_installing",
                '"commit_index": 0',
                '"commit_index": self._require_engine().commit_index',
            ),
        ),
        plot="own_tail_when_a_snapshot_is_offered",
    ),
    Mutation(
        "H3: loading a snapshot clears the log",
        (
            Change("cluster.journal.journal", "Journal._add_replacing", "if known and", "if False and"),
            Change("cluster.journal.log", "DurableLog.replace", "if len(self.table) and", "if False and"),
        ),
        first=8,
    ),
    Mutation(
        "H4: a leader counts itself before its disk has the entry",
        (
            Change(
                _TRANSPORT,
                "GuardedTransport._deliver_held_acks",
                'message["next_node_idx"] - 1 > durable',
                "False",
            ),
            # The second one that keeps a commit from the others until the leader's own disk has it.
            Change(
                _TRANSPORT,
                "GuardedTransport._send_append",
                'message["commit_index"] = min(message["commit_index"], self._journal.durable_index)',
                "pass",
            ),
        ),
        plot="leader_with_a_stalled_disk",
    ),
    Mutation(
        "a leader with a stalled disk waits for it",
        (Change("cluster.periodic", "Periodic._leave", "core.engine.step_down()", "pass"),),
        plot="stalled_leader_gives_way",
    ),
    Mutation(
        "H4: a follower acknowledges before its disk has the entry",
        (
            Change(
                _TRANSPORT,
                _SEND,
                'message["next_node_idx"] = self._back_off(message["next_node_idx"])\n        ' + _HOLD,
                'message["next_node_idx"] = self._back_off(message["next_node_idx"])\n'
                "        self._network_send(peer, message)",
            ),
        ),
        plot="power_lost_with_an_entry",
    ),
    Mutation(
        "a vote leaves before the disk has it",
        (
            Change(
                _TRANSPORT,
                _SEND,
                'message["transfer"] = self._transfer_campaign\n        ' + _HOLD,
                'message["transfer"] = self._transfer_campaign\n        self._network_send(peer, message)',
            ),
        ),
        plot="power_lost_with_a_vote",
    ),
    Mutation(
        "H5: an acknowledgement of an earlier leadership counts",
        (
            Change(_TRANSPORT, "GuardedTransport._receive_ack", 'message["term"] != engine.term or ', ""),
            Change(
                _TRANSPORT,
                "GuardedTransport._deliver_held_acks",
                'elif message["term"] == engine.term and engine.counts(peer):',
                "elif engine.counts(peer):",
            ),
        ),
        plot="acknowledgement_of_an_earlier_leadership",
    ),
    Mutation(
        "answers wait for the next write",
        (Change("cluster.core", "Core._pump", "self.transport.release()", "pass"),),
    ),
    Mutation(
        "durability by index, not by what was written",
        (
            Change(
                "cluster.journal.log",
                "DurableLog.durable_index",
                "return self.table.first_at_or_after(self.writer.durable_end) - 1",
                "self.high = max(getattr(self, 'high', 0), self.table.first_at_or_after(self.writer.durable_end) - 1)\n"
                "    return min(self.high, self.table.last)",
            ),
        ),
        plot="old_indexes_and_new_entries",
    ),
    Mutation(
        "applied before it is on the own disk",
        (
            Change(
                "cluster.engine",
                "Engine._SyncObj__applyLogEntries",
                "min(self._SyncObj__raftCommitIndex, self._journal.durable_index)",
                "self._SyncObj__raftCommitIndex",
            ),
        ),
    ),
    Mutation(
        "no pre-vote, no stickiness",
        (
            Change("cluster.election", "Elections.before_tick", "elif self._majority(self._granted):", "elif True:"),
            Change("cluster.election", "Elections.refuse_vote_request", 'if message.get("transfer"):', "if True:"),
        ),
    ),
    Mutation(
        "H15: a known node with another journal is let in",
        (
            Change(
                "cluster.peers",
                "Peers.refuse",
                'if known is not None and hello.get("journal_id") != known:',
                "if False:",
            ),
        ),
        first=4,
    ),
    Mutation(
        "batches under way are proposed again in the same term",
        (Change("cluster.proposer", "Proposer.applied_term", "sent.term < term", "sent.term <= term"),),
    ),
    Mutation(
        "a leader takes a repeated batch again",
        (Change("cluster.intake", "Intake.take", "if sequence in seen:", "if False:"),),
        first=26,
    ),
    Mutation(
        "a refusal of a repeated batch counts",
        (
            Change(
                "cluster.proposer",
                "Proposer.refused",
                ' or (code == "not_leader" and sent.times_sent > 1)',
                "",
            ),
        ),
        first=5,
    ),
    Mutation(
        "a batch is appended in a term it does not name",
        (
            Change("cluster.intake", "Intake.take", "or self._engine.term != term ", ""),
            Change("cluster.intake", "Intake.append", " and self._engine.term == self._seen_term", ""),
        ),
        focus="divergence",
    ),
    Mutation(
        "a linearizable read without a round",
        (Change("cluster.read_index", "ReadIndex.pump", "if self._contact.alone:", "if True:"),),
        plot="read_at_a_leader_cut_off_on_one_side",
    ),
    Mutation(
        "a linearizable read before the leader's first entry is committed",
        (Change("cluster.read_index", "ReadIndex._take", "if engine.commit_index < engine.no_op_index:", "if False:"),),
        first=5,
    ),
    Mutation(
        "a snapshot older than the state is installed",
        (
            Change(
                "cluster.snapshots",
                "Snapshots.on_offer",
                " or manifest.position.index <= here",
                "",
            ),
            Change("cluster.installing", "Installing.go_on", "if index > core.engine.applied_index:", "if True:"),
        ),
        plot="snapshot_overtaken_by_the_log",
    ),
    Mutation(
        "an installed snapshot is answered with the end of the log",
        (Change(_TRANSPORT, _SEND, 'message["next_node_idx"] = self._installed_index + 1', "pass"),),
        plot="tail_behind_a_snapshot",
    ),
    Mutation(
        "a lost answer to a snapshot is waited for",
        (
            Change(
                _TRANSPORT,
                "GuardedTransport.installed",
                "engine.set_next_index(peer, max(engine.next_index(peer), after))",
                "pass",
            ),
        ),
        plot="answer_to_a_snapshot_is_lost",
    ),
    Mutation(
        "an offer of an earlier leadership is never forgotten",
        (Change(_TRANSPORT, "GuardedTransport.leadership_changed", "self.resume(peer)", "pass"),),
        plot="offer_of_an_earlier_leadership",
    ),
    Mutation(
        "an own snapshot takes the place of a newer one",
        (
            Change(
                "cluster.snapshots",
                "Snapshots._newer_is_coming",
                "return self._fetch is not None or self.ready is not None",
                "return False",
            ),
        ),
        plot="own_snapshot_while_one_is_fetched",
    ),
    Mutation(
        "a state older than the snapshot goes on",
        (Change("cluster.state", "may_stay", "if position.index < snapshot_index:", "if False:"),),
        plot="killed_between_image_and_log",
    ),
    Mutation(
        "a new leader does not take up the log's time",
        (
            Change("cluster.core", "Core._tell_role", "self.entry_time.resume(self.journal)", "pass"),
            Change("cluster.core", "Core._tell_role", "self.entry_time.seen(self.state.position.time_ms)", "pass"),
        ),
        focus="clocks",
        first=2,
    ),
    Mutation(
        "entries are stamped by the leader's clock alone",
        (Change("cluster.entry_time", "EntryTime.known", "return self._contact.clocks_known()", "return True"),),
        focus="clocks",
    ),
)
