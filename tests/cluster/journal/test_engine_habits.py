"""The journal under the real engine, and under the engine's calls one by one."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from cluster.journal import Journal, JournalConflict, JournalFailed
from cluster.journal.slices import Entry
from tests.cluster.journal.stepping import Bench, open_bench


def entry(index: int, term: int) -> Entry:
    return (f"\x00{index}.{term}.".encode(), index, term)


def entries(first: int, *terms: int) -> list[Entry]:
    return [entry(first + position, term) for position, term in enumerate(terms)]


def with_log(*terms: int, commit: int = 0) -> Bench:
    bench = open_bench()
    for one in entries(1, *terms):
        bench.journal.add(*one)
    bench.journal.setRaftCommitIndex(commit)
    bench.settle()
    return bench


def indexes_terms(journal: Journal) -> list[tuple[int, int]]:
    return [(one[1], one[2]) for one in journal[0:]]


class Wire(Transport):  # type: ignore[misc]  # the engine is not typed
    """Keeps what the engine sends; a test says what it receives."""

    def __init__(self) -> None:
        super().__init__(None, None, None)
        self.sent: list[dict[str, Any]] = []

    @property
    def ready(self) -> bool:
        return True

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self.sent.append(message)
        return True

    def receive(self, message: dict[str, Any]) -> dict[str, Any]:
        """Deliver a message of the leader; returns the engine's answer."""
        self.sent.clear()
        self._onMessageReceived(Node("leader"), message)
        (answer,) = self.sent
        return answer


class Follower:
    """A real engine of a three-node cluster over a journal, with a leader played by the test."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pysyncobj.syncobj, "createJournal", lambda journal: journal)
        self.bench = bench
        self.journal = bench.journal
        self.wire = Wire()
        conf = SyncObjConf(autoTick=False, journalFile=bench.journal, dynamicMembershipChange=False)
        self.engine = SyncObj(Node("self"), [Node("leader"), Node("other")], conf, nodeClass=Node, transport=self.wire)

    def append(self, previous: tuple[int, int], new: list[Entry], *, term: int, commit: int = 0) -> Any:
        """An append_entries message; returns (success, next index)."""
        answer = self.wire.receive(
            {
                "type": "append_entries",
                "term": term,
                "commit_index": commit,
                "entries": new,
                "prevLogIdx": previous[0],
                "prevLogTerm": previous[1],
            }
        )
        self.bench.settle()
        return answer["success"], answer["next_node_idx"]


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Follower:
    bench = open_bench()
    one = Follower(bench, monkeypatch)
    # The engine has put its own first entry, of term 0, into the empty log.
    assert one.append((1, 0), entries(2, 1, 1, 1, 1), term=1, commit=2) == (True, 6)
    return one


def test_a_repeated_message_drops_nothing(follower: Follower) -> None:
    before = follower.journal.written_sequence
    assert follower.append((1, 0), entries(2, 1), term=1, commit=2) == (True, 3)
    assert indexes_terms(follower.journal) == [(1, 0), (2, 1), (3, 1), (4, 1), (5, 1)]
    assert follower.journal.written_sequence == before
    assert follower.journal.durable_index == 5


def test_a_heartbeat_at_an_earlier_entry_drops_nothing(follower: Follower) -> None:
    assert follower.append((2, 1), [], term=1, commit=2) == (True, 3)
    assert follower.journal.last_index == 5


def test_a_message_that_overlaps_and_goes_on_is_appended(follower: Follower) -> None:
    assert follower.append((3, 1), entries(4, 1, 1, 1, 1), term=1, commit=2) == (True, 8)
    assert follower.journal.last_index == 7
    follower.bench.disk.crash(Random(0))
    again = open_bench(follower.bench.disk).journal
    assert list(again[1:]) == entries(2, 1, 1, 1, 1, 1, 1)


def test_a_conflict_drops_the_rest(follower: Follower) -> None:
    assert follower.append((2, 1), entries(3, 1, 2), term=2, commit=2) == (True, 5)
    expected = [(1, 0), (2, 1), (3, 1), (4, 2)]
    assert indexes_terms(follower.journal) == expected
    follower.bench.disk.crash(Random(0))
    assert indexes_terms(open_bench(follower.bench.disk).journal) == expected


def test_messages_that_do_not_fit_change_nothing(follower: Follower) -> None:
    before = indexes_terms(follower.journal)
    assert follower.append((9, 1), entries(10, 1), term=1)[0] is False
    assert follower.append((4, 3), entries(5, 3), term=1)[0] is False
    assert indexes_terms(follower.journal) == before


def test_a_higher_term_and_a_vote_are_kept(follower: Follower) -> None:
    follower.wire.receive({"type": "request_vote", "term": 6, "last_log_index": 9, "last_log_term": 5})
    follower.bench.settle()
    follower.bench.disk.crash(Random(0))
    again = open_bench(follower.bench.disk).journal
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (6, "leader")


def test_an_engine_goes_on_where_it_was(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    follower.bench.disk.crash(Random(0))
    second = Follower(open_bench(follower.bench.disk), monkeypatch)
    assert second.engine.raftCurrentTerm == 1
    assert second.engine.raftCommitIndex == 2
    assert second.append((5, 1), entries(6, 1), term=1, commit=5) == (True, 7)


def test_a_message_from_an_older_state_cannot_undo_a_commit(follower: Follower) -> None:
    with pytest.raises(JournalFailed):
        follower.append((1, 0), entries(2, 3), term=3)
    assert [type(failure) for failure in follower.bench.failures] == [JournalConflict]


def test_the_tail_is_hidden_until_the_handler_ends() -> None:
    bench = with_log(1, 1, 1, 1)
    journal = bench.journal
    journal.deleteEntriesFrom(2)
    assert (len(journal), journal.last_index, journal[-1][1], journal.durable_index) == (2, 2, 2, 2)
    assert journal.term_at(3) is None
    journal.add(*entry(3, 1))
    assert (len(journal), journal[-1][1], journal.durable_index) == (3, 3, 3)
    journal.setRaftCommitIndex(1)
    assert (len(journal), journal.durable_index) == (4, 4)


def test_a_hidden_tail_is_back_before_a_vote() -> None:
    bench = with_log(1, 1, 1)
    bench.journal.deleteEntriesFrom(1)
    bench.journal.setCurrentTerm(2, "n1")
    assert bench.journal[-1][1] == 3


def test_an_equal_entry_with_another_content_is_a_bug() -> None:
    bench = with_log(1, 1)
    bench.journal.deleteEntriesFrom(1)
    with pytest.raises(JournalFailed):
        bench.journal.add(b"another content", 2, 1)
    assert [type(failure) for failure in bench.failures] == [JournalConflict]


def load_snapshot(journal: Journal, lower: Entry, upper: Entry) -> None:
    """What the engine does when it has loaded a snapshot that ends with these two entries."""
    journal.clear()
    assert len(journal) == 0
    journal.add(*lower)
    journal.add(*upper)


def test_a_log_that_agrees_with_the_snapshot_stays_whole() -> None:
    bench = with_log(1, 1, 2, 2, 2, 2, commit=5)
    before = bench.journal.written_sequence
    load_snapshot(bench.journal, entry(3, 2), entry(4, 2))
    assert indexes_terms(bench.journal) == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 2)]
    assert bench.journal.written_sequence == before
    bench.append(3)
    bench.settle()
    assert open_bench(bench.disk).journal.last_index == 7


def test_a_log_that_was_trimmed_to_the_upper_entry_stays() -> None:
    bench = with_log(1, 1, 2, 2, 2, commit=4)
    bench.journal.deleteEntriesTo(3)
    load_snapshot(bench.journal, entry(3, 2), entry(4, 2))
    assert indexes_terms(bench.journal) == [(4, 2), (5, 2)]


def test_a_log_that_ends_with_the_lower_entry_is_continued() -> None:
    bench = with_log(1, 1, commit=2)
    load_snapshot(bench.journal, entry(2, 1), entry(3, 2))
    assert indexes_terms(bench.journal) == [(1, 1), (2, 1), (3, 2)]
    bench.settle()
    assert open_bench(bench.disk).journal.last_index == 3


def test_a_log_that_parts_after_the_lower_entry_follows_the_snapshot() -> None:
    bench = with_log(1, 1, 1, 1, commit=1)
    load_snapshot(bench.journal, entry(2, 1), entry(3, 2))
    expected = [(1, 1), (2, 1), (3, 2)]
    assert indexes_terms(bench.journal) == expected
    bench.settle()
    assert indexes_terms(open_bench(bench.disk).journal) == expected


@pytest.mark.parametrize("terms", [(1,), (1, 1, 1, 1, 1, 1, 1, 1)])
def test_a_log_that_knows_nothing_of_the_snapshot_is_replaced(terms: tuple[int, ...]) -> None:
    bench = with_log(*terms, commit=1)
    load_snapshot(bench.journal, entry(5, 2), entry(6, 2))
    assert indexes_terms(bench.journal) == [(5, 2), (6, 2)]
    assert bench.journal.durable_index == 4
    assert (bench.journal.first_index, bench.journal.total_bytes > 0) == (5, True)
    bench.settle()
    assert bench.journal.durable_index == 6
    bench.append(3)
    bench.settle()
    bench.disk.crash(Random(1))
    assert indexes_terms(open_bench(bench.disk).journal) == [(5, 2), (6, 2), (7, 3)]


def test_a_snapshot_that_agrees_with_half_of_the_log_replaces_it() -> None:
    bench = with_log(1, 1, 2, 2, commit=1)
    load_snapshot(bench.journal, entry(2, 2), entry(3, 2))
    assert indexes_terms(bench.journal) == [(2, 2), (3, 2)]


def test_the_first_entry_of_a_replaced_log_is_forgotten() -> None:
    bench = with_log(1, 1, 1, commit=1)
    assert bench.journal[0] == entry(1, 1)
    load_snapshot(bench.journal, entry(1, 2), entry(2, 2))
    bench.settle()
    assert bench.journal[0] == entry(1, 2)


def test_a_crash_while_replacing_leaves_one_log_or_the_other() -> None:
    seen = set()
    for seed in range(80):
        bench = with_log(1, 1, 1, commit=1)
        big = b"\x00".ljust(300, b"x")
        load_snapshot(bench.journal, (big, 5, 2), (big, 6, 2))
        bench.journal.flush()
        bench.executor.step()
        bench.disk.crash(Random(seed))
        seen.add(tuple(indexes_terms(open_bench(bench.disk).journal)))
    assert seen == {((1, 1), (2, 1), (3, 1)), ((5, 2), (6, 2))}


def test_a_replaced_log_frees_its_segments() -> None:
    bench = open_bench()
    for _ in range(100):
        bench.append(1, size=200)
        bench.settle()
    load_snapshot(bench.journal, entry(500, 2), entry(501, 2))
    bench.settle()
    assert bench.journal.stats().segments == 1
    assert len(bench.disk.names()) == 2


@pytest.mark.parametrize(("commit", "trim"), [(6, 0), (2, 4)])
def test_a_snapshot_may_not_take_back_what_is_committed(commit: int, trim: int) -> None:
    bench = with_log(1, 1, 1, 1, 1, 1, commit=commit)
    bench.journal.deleteEntriesTo(trim)
    with pytest.raises(JournalFailed):
        load_snapshot(bench.journal, entry(2, 3), entry(3, 3))
    assert [type(failure) for failure in bench.failures] == [JournalConflict]
    assert indexes_terms(open_bench(bench.disk).journal)[-1] == (6, 1)


def test_nothing_else_may_happen_while_a_snapshot_is_loaded() -> None:
    calls: list[Callable[[Journal], None]] = [
        lambda journal: journal.deleteEntriesFrom(0),
        lambda journal: journal.deleteEntriesTo(1),
        lambda journal: journal.setRaftCommitIndex(3),
        lambda journal: journal.clear(),
    ]
    for call in calls:
        bench = with_log(1, 1, commit=1)
        bench.journal.clear()
        with pytest.raises(JournalFailed):
            call(bench.journal)
        assert len(bench.failures) == 1


def test_the_engine_ends_the_journal_with_itself(follower: Follower) -> None:
    follower.engine.destroy()
    with pytest.raises(JournalFailed):
        follower.journal.add(b"x", 6, 1)
    assert open_bench(follower.bench.disk).journal.last_index == 5
