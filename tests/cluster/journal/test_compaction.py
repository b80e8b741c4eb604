"""Giving up what a snapshot covers."""

from __future__ import annotations

import copy
from random import Random

import pytest

from cluster.journal import JournalOptions
from tests.cluster.journal.stepping import SMALL, Bench, open_bench


def written(entries: int, options: JournalOptions = SMALL) -> Bench:
    bench = open_bench(options=options)
    for _ in range(entries):
        bench.append(1, size=100)
        bench.settle()
    bench.journal.setRaftCommitIndex(entries)
    return bench


def test_the_start_moves_and_whole_segments_go() -> None:
    bench = written(200)
    segments = bench.journal.stats().segments
    assert segments > 6
    bench.journal.deleteEntriesTo(149)
    assert bench.journal.first_index == 150
    assert bench.journal[0][1] == 150
    assert len(bench.journal) == 51
    bench.settle()
    left = bench.journal.stats().segments
    assert left < segments / 2
    assert len(bench.disk.names()) == left + 1  # and the spare
    assert [entry[1] for entry in bench.journal[0:]] == list(range(150, 201))
    again = open_bench(bench.disk).journal
    assert (again.first_index, again.last_index) == (150, 200)
    assert [entry[1] for entry in again[0:]] == list(range(150, 201))


def test_no_file_goes_before_the_new_start_is_durable() -> None:
    bench = written(200)
    names = bench.disk.names()
    bench.journal.deleteEntriesTo(149)
    bench.journal.flush()
    bench.executor.step()
    assert bench.disk.names() == names
    crashed = copy.deepcopy(bench.disk)
    crashed.crash(Random(1))
    assert open_bench(crashed).journal.last_index == 200
    bench.executor.run()
    assert len(bench.disk.names()) < len(names)


def test_a_crash_in_the_middle_of_deleting_is_mended() -> None:
    seen = set()
    for seed in range(40):
        bench = written(200)
        bench.journal.deleteEntriesTo(149)
        bench.journal.flush()
        bench.executor.step()
        bench.executor.step()
        for _ in range(4):
            bench.executor.step()
        bench.disk.crash(Random(seed))
        seen.add(tuple(bench.disk.names()))
        again = open_bench(bench.disk)
        assert [entry[1] for entry in again.journal[0:]] == list(range(150, 201))
        again.append(1)
        again.settle()
        assert len(bench.disk.names()) == again.journal.stats().segments + 1
        assert open_bench(bench.disk).journal.last_index == 201
    assert len(seen) > 5


def test_term_vote_and_commit_outlive_the_segment_they_were_written_in() -> None:
    bench = open_bench()
    bench.journal.setCurrentTerm(7, "n3")
    for _ in range(200):
        bench.append(7, size=100)
        bench.settle()
    bench.journal.setRaftCommitIndex(180)
    bench.journal.deleteEntriesTo(190)
    bench.settle()
    again = open_bench(bench.disk).journal
    assert (again.getCurrentTerm(), again.getVotedForNodeId(), again.getRaftCommitIndex()) == (7, "n3", 180)


def test_some_log_stays_behind_a_snapshot() -> None:
    bench = written(200, JournalOptions(segment_bytes=4096, log_keep_bytes=3000))
    bench.journal.deleteEntriesTo(149)
    first = bench.journal.first_index
    assert 120 < first < 150
    behind = bench.journal.bytes_behind(150)
    assert 3000 - 200 <= behind <= 3000


def test_the_start_never_goes_back() -> None:
    bench = written(100)
    bench.journal.deleteEntriesTo(49)
    bench.settle()
    before = bench.journal.written_sequence
    bench.journal.deleteEntriesTo(0)
    bench.journal.deleteEntriesTo(-5)
    assert bench.journal.first_index == 50
    assert bench.journal.written_sequence == before


def test_the_last_entry_always_stays() -> None:
    bench = written(10)
    bench.journal.deleteEntriesTo(50)
    assert (bench.journal.first_index, bench.journal.last_index) == (10, 10)
    bench.settle()
    assert open_bench(bench.disk).journal[-1][1] == 10


def test_a_hold_keeps_entries_until_it_is_released() -> None:
    bench = written(200)
    hold = bench.journal.hold(30)
    later = bench.journal.hold(60)
    bench.journal.deleteEntriesTo(149)
    assert bench.journal.first_index == 30
    hold.release()
    assert bench.journal.first_index == 60
    hold.release()
    later.release()
    assert bench.journal.first_index == 150
    bench.settle()
    assert open_bench(bench.disk).journal.first_index == 150


def test_a_hold_that_is_released_before_any_trim_moves_nothing() -> None:
    bench = written(50)
    bench.journal.hold(10).release()
    assert bench.journal.first_index == 1


def test_a_hold_may_not_keep_too_much() -> None:
    bench = written(200, JournalOptions(segment_bytes=4096, log_keep_bytes=0, hold_bytes_max=2000))
    bench.journal.hold(30)
    bench.journal.deleteEntriesTo(149)
    assert 130 < bench.journal.first_index < 150
    assert bench.journal.bytes_behind(150) <= 2000


def test_a_journal_in_constant_use_stays_small() -> None:
    bench = open_bench()
    for round_number in range(1, 40):
        for _ in range(20):
            bench.append(1, size=100)
            bench.settle()
        bench.journal.setRaftCommitIndex(bench.journal.last_index)
        bench.journal.deleteEntriesTo(len(bench.journal) - 3)
        bench.settle()
        assert len(bench.disk.names()) <= 4, round_number
    assert bench.journal.stats().cached_bytes <= 3 * 300
    again = open_bench(bench.disk).journal
    assert (again.last_index, len(again)) == (780, 3)


def test_entries_that_were_replaced_in_deleted_segments_do_no_harm() -> None:
    bench = open_bench()
    for _ in range(50):
        bench.append(1, size=100)
        bench.settle()
    bench.journal.setRaftCommitIndex(20)
    # Another leader replaces 21 to 50; the new ones lie in later segments.
    bench.journal.deleteEntriesFrom(20)
    for _ in range(60):
        bench.append(2, size=100)
        bench.journal.setRaftCommitIndex(20)
        bench.settle()
    bench.journal.deleteEntriesTo(24)
    bench.settle()
    again = open_bench(bench.disk).journal
    assert [(entry[1], entry[2]) for entry in again[0:]] == [(index, 2) for index in range(25, 81)]


def test_a_failed_deletion_is_a_failure() -> None:
    bench = written(200)
    bench.journal.deleteEntriesTo(149)
    bench.journal.flush()
    bench.executor.step()
    bench.executor.step()
    bench.disk.faults.sync_error = True
    bench.executor.run()
    assert len(bench.failures) == 1


@pytest.mark.parametrize("seed", range(5))
def test_trimmed_logs_survive_crashes(seed: int) -> None:
    rng = Random(seed)
    bench = open_bench()
    for _ in range(30):
        for _ in range(rng.randrange(15)):
            bench.append(1, size=rng.randrange(10, 400))
        bench.journal.setRaftCommitIndex(bench.journal.last_index)
        bench.settle()
        if len(bench.journal) > 5:
            bench.journal.deleteEntriesTo(rng.randrange(len(bench.journal) - 2))
        bench.journal.flush()
        for _ in range(rng.randrange(12)):
            bench.executor.step()
        last = bench.journal.last_index
        bench.disk.crash(rng)
        bench = open_bench(bench.disk)
        assert bench.journal.last_index == last
        assert [entry[1] for entry in bench.journal[0:]] == list(range(bench.journal.first_index, last + 1))
