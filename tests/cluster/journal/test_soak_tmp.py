"""Random use with crashes, against a log that is a plain list.

After a crash the journal must be exactly what it was after some change, at or after the last one that was durable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.journal import JournalOptions
from cluster.journal.slices import Entry
from cluster.memory_disk import MemoryDisk
from tests.cluster.journal.stepping import open_bench

OPTIONS = JournalOptions(segment_bytes=4096, cache_bytes=1500, log_keep_bytes=600, hold_bytes_max=2000)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([0, 1, 30, 200, 500, 1500])


@dataclass(frozen=True)
class State:
    """What the journal holds. `commit` only grows, and a crash may take it back a little."""

    entries: tuple[Entry, ...] = ()
    first: int = 1
    term: int = 0
    vote: str | None = None

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    def upto(self, index: int) -> tuple[Entry, ...]:
        return self.entries[: index - self.first + 1]


class JournalModel(RuleBasedStateMachine):
    @initialize()
    def make(self) -> None:
        self.bench = open_bench(MemoryDisk(), OPTIONS, create=True)
        self.state = State()
        self.commit = 0
        self.entry_term = 0
        self.history = [(0, self.state)]

    def note(self, state: State) -> None:
        self.state = state
        self.history.append((self.bench.journal.written_sequence, state))

    def make_entry(self, index: int, term: int, size: int) -> Entry:
        return (f"{index}.{term}.".encode() + b"x" * size, index, term)

    def put(self, one: Entry) -> None:
        self.bench.journal.add(*one)
        self.note(replace(self.state, entries=(*self.state.entries, one)))

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=4))
    def lead(self, sizes: list[int]) -> None:
        for size in sizes:
            self.put(self.make_entry(self.state.last + 1, self.entry_term, size))

    @rule(data=st.data(), sizes=st.lists(SIZES, max_size=3), conflict=st.booleans())
    def follow(self, data: st.DataObject, sizes: list[int], conflict: bool) -> None:
        """A leader's message that attaches somewhere behind the commit index, repeats some entries, and goes on."""
        journal, state = self.bench.journal, self.state
        if not state.entries:
            return
        previous = data.draw(st.integers(max(self.commit, state.first), state.last), label="previous")
        repeated = data.draw(st.integers(previous, state.last), label="repeated up to")
        journal.deleteEntriesFrom(previous - state.first + 1)
        for one in state.entries[previous - state.first + 1 : repeated - state.first + 1]:
            journal.add(*one)
        if sizes and (conflict or repeated == state.last):
            if repeated < state.last:
                self.entry_term += 1
            kept = replace(state, entries=state.upto(repeated))
            if repeated < state.last:
                # The truncation is a record of its own, so a crash may leave just it.
                self.history.append((journal.written_sequence + 1, kept))
            self.state = kept
            for size in sizes:
                self.put(self.make_entry(self.state.last + 1, self.entry_term, size))
        journal.setRaftCommitIndex(self.commit)

    @rule(ahead=st.integers(0, 3))
    def advance_commit(self, ahead: int) -> None:
        self.commit = max(self.commit, min(self.state.last, self.commit + ahead))
        self.bench.journal.setRaftCommitIndex(self.commit)

    @rule(vote=st.sampled_from([None, "n1", "n2"]), more=st.integers(0, 2))
    def change_term(self, vote: str | None, more: int) -> None:
        term = self.state.term + more
        self.bench.journal.setCurrentTerm(term, vote)
        self.note(replace(self.state, term=term, vote=vote))

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        if self.commit <= self.state.first:
            return
        wanted = data.draw(st.integers(self.state.first, self.commit), label="snapshot")
        journal = self.bench.journal
        journal.deleteEntriesTo(wanted - self.state.first)
        first = journal.first_index
        assert self.state.first <= first <= wanted
        assert journal.bytes_behind(wanted) <= OPTIONS.log_keep_bytes
        self.note(replace(self.state, entries=self.state.entries[first - self.state.first :], first=first))

    @rule(data=st.data(), gap=st.integers(1, 4))
    def install_snapshot(self, data: st.DataObject, gap: int) -> None:
        """A snapshot above the log, or one that ends at a committed entry of it."""
        journal, state = self.bench.journal, self.state
        inside = self.commit > state.first and data.draw(st.booleans(), label="inside the log")
        if inside:
            upper = data.draw(st.integers(state.first + 1, self.commit), label="upper")
            lower_entry, upper_entry = state.entries[upper - state.first - 1 :][:2]
        else:
            self.entry_term += 1
            index = state.last + gap
            lower_entry = self.make_entry(index, self.entry_term, 20)
            upper_entry = self.make_entry(index + 1, self.entry_term, 20)
        journal.clear()
        journal.add(*lower_entry)
        journal.add(*upper_entry)
        if not inside:
            # The three records of a replacement share a group.
            self.note(replace(state, entries=(lower_entry, upper_entry), first=lower_entry[1]))
            self.commit = max(self.commit, lower_entry[1])
            journal.setRaftCommitIndex(self.commit)

    @rule()
    def flush(self) -> None:
        self.bench.journal.flush()

    @rule()
    def tick(self) -> None:
        self.bench.journal.onOneSecondTimer()

    @rule(steps=st.integers(1, 8))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.bench.executor.step()

    @rule()
    def settle(self) -> None:
        self.bench.settle()
        assert self.bench.journal.durable_index == self.state.last
        assert self.bench.journal.durable_sequence == self.bench.journal.written_sequence

    @rule(seed=SEEDS)
    def lose_power(self, seed: int) -> None:
        self.bench.disk.crash(Random(seed))
        self.reopen()

    @rule()
    def die(self) -> None:
        """The process ends, the machine keeps what was written."""
        self.reopen()

    @rule(seed=SEEDS)
    def close(self, seed: int) -> None:
        self.bench.journal.close()
        self.bench.disk.crash(Random(seed))
        state = self.state
        self.reopen()
        assert self.state == state

    def reopen(self) -> None:
        old = self.bench.journal
        durable, sequence, commit = old.durable_index, old.durable_sequence, old.durable_commit_index
        durable_entries = self.state.upto(durable)
        self.bench = open_bench(self.bench.disk, OPTIONS)
        journal = self.bench.journal
        found = State(tuple(journal[0:]), journal.first_index, journal.getCurrentTerm(), journal.getVotedForNodeId())
        reachable = [state for number, state in self.history if number >= sequence]
        at_durable = [state for number, state in self.history if number <= sequence][-1]
        assert found in (at_durable, *reachable)
        kept = {one[1]: one for one in found.entries}
        for one in durable_entries:
            assert one[1] < found.first or kept[one[1]] == one
        recovered_commit = journal.getRaftCommitIndex()
        assert recovered_commit <= max(self.commit, 1)
        assert recovered_commit >= min(commit, found.last)
        self.state = found
        self.commit = 0 if self.commit == 0 else min(recovered_commit, found.last)
        self.history = [(0, found)]

    @invariant()
    def looks_like_the_model(self) -> None:
        journal, state = self.bench.journal, self.state
        assert self.bench.failures == []
        assert (journal.first_index, journal.last_index, len(journal)) == (
            state.first,
            state.last,
            len(state.entries),
        )
        assert tuple(journal[0:]) == state.entries
        assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (state.term, state.vote)
        assert state.first - 1 <= journal.durable_index <= state.last
        assert journal.durable_sequence <= journal.written_sequence
        assert journal.last_term == (state.entries[-1][2] if state.entries else 0)


JournalModel.TestCase.settings = settings(
    max_examples=1500,
    stateful_step_count=80,
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow],
)
TestJournalModel = JournalModel.TestCase
