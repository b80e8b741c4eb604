"""Entries are applied in order, each once, in slices; a transaction is whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from cluster.applier import AppliedOutOfOrderError, Applier, Decided
from cluster.engine import NO_OP, REGULAR
from cluster.journal import Journal, JournalOptions
from cluster.memory_disk import MemoryDisk
from cluster.memory_state import MemoryState
from cluster.replica import Metrics, Notice
from cluster.state import next_chain
from statemachine.changes import Change
from statemachine.commands import CreateSession
from statemachine.entry import Batch, Header, encode_batch, encode_entry
from statemachine.outcome import Outcome
from statemachine.store import Reader
from tests.cluster.clocks import ManualClock
from tests.sim.load import frame_of

_TERM = 3


@dataclass
class _Applied:
    writes: list[tuple[bytes, bytes | None]]
    outcomes: list[tuple[Outcome, ...]]
    revision: int
    time_ms: int
    first_revision: int = 1
    changes: tuple[Change, ...] = ()
    internal_errors: tuple[str, ...] = ()


@dataclass
class _Machine:
    """Counts entries in one key, and does as told."""

    clock: ManualClock
    takes_s: float = 0.0
    fault: BaseException | None = None
    times: list[int] = field(default_factory=list)

    def __call__(self, reader: Reader, header: Header, batches: list[Batch]) -> _Applied:
        if self.fault is not None:
            raise self.fault
        self.clock.advance(self.takes_s)
        self.times.append(header.time_ms)
        count = int(reader.get(b"tcount") or b"0") + 1
        outcomes: list[tuple[Outcome, ...]] = [() for _ in batches]
        return _Applied([(b"tcount", b"%d" % count)], outcomes, count, header.time_ms)


class _Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.journal = Journal.open(
            MemoryDisk(),
            journal_id=bytes(16),
            options=JournalOptions(segment_bytes=1 << 20),
            clock=self.clock,
            create=True,
        )
        self.journal.add(NO_OP, 1, 0)
        self.state = MemoryState()
        self.machine = _Machine(self.clock)
        self.metrics = Metrics()
        self.told: list[tuple[int, list[Decided], list[Notice]]] = []
        self.applier = Applier(
            self.state, self.journal, self.machine, self.clock, self.metrics, lambda *what: self.told.append(what)
        )

    def entry(self, index: int) -> None:
        batch = encode_batch(9, index, [frame_of("", CreateSession("s"))])
        self.journal.add(REGULAR + encode_entry(Header(1000 + index, _TERM), [batch]), index, _TERM)

    def count(self) -> bytes | None:
        with self.state.view() as view:
            return view.get(b"tcount")


def test_entries_become_visible_together_and_are_told_in_order() -> None:
    bench = _Bench()
    bench.entry(2)
    bench.journal.add(NO_OP, 3, _TERM)
    bench.entry(4)
    assert bench.applier.apply(2, 4) == 4
    assert bench.count() == b"2"
    assert bench.machine.times == [1002, 1004]
    ((term, decided, notices),) = bench.told
    assert term == _TERM
    assert [(one.run, one.sequence) for one in decided] == [(9, 2), (9, 4)]
    assert [(notice.index, notice.revision) for notice in notices] == [(2, 1), (4, 2)]
    position = bench.state.position
    assert (position.index, position.term, position.revision, position.time_ms) == (4, _TERM, 2, 1004)
    chain = next_chain(next_chain(b"", 2, [(b"tcount", b"1")]), 3, [])
    assert position.chain == next_chain(chain, 4, [(b"tcount", b"2")])
    assert bench.metrics.proposals_applied == 2


def test_a_long_run_is_applied_in_slices() -> None:
    """Heartbeats go out in between."""
    bench = _Bench()
    bench.machine.takes_s = 0.015
    for index in range(2, 7):
        bench.entry(index)
    assert bench.applier.apply(2, 6) == 3
    assert (bench.count(), bench.state.position.index) == (b"2", 3)
    assert bench.applier.apply(4, 6) == 5
    assert bench.applier.apply(6, 6) == 6
    assert bench.count() == b"5"


@pytest.mark.parametrize("first", [1, 3])
def test_an_entry_that_does_not_follow_the_state_is_refused(first: int) -> None:
    bench = _Bench()
    bench.entry(2)
    bench.entry(3)
    with pytest.raises(AppliedOutOfOrderError):
        bench.applier.apply(first, 3)
    assert (bench.count(), bench.told) == (None, [])


@pytest.mark.parametrize("fault", [OSError(5, "unreadable"), MemoryError(), GeneratorExit()])
def test_what_is_no_answer_leaves_nothing_behind(fault: BaseException) -> None:
    bench = _Bench()
    bench.entry(2)
    bench.entry(3)
    bench.machine.fault = fault
    with pytest.raises(type(fault)):
        bench.applier.apply(2, 3)
    assert (bench.count(), bench.state.position.index, bench.told) == (None, 1, [])
    bench.machine.fault = None
    assert bench.applier.apply(2, 3) == 3
    assert bench.count() == b"2"
