"""What counts as durable, and when."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

import pytest

from cluster.journal import Journal, JournalConflict, JournalFailed, JournalOptions
from cluster.real.disk import DirectoryDisk
from tests.cluster.journal.stepping import JOURNAL_ID, SMALL, SteppingClock, SteppingExecutor, open_bench


def test_nothing_is_durable_before_its_sync() -> None:
    bench = open_bench()
    bench.append(1, 1)
    journal = bench.journal
    assert (journal.durable_index, journal.durable_sequence, journal.written_sequence) == (0, 0, 2)
    journal.flush()
    bench.executor.step()  # the write
    assert journal.durable_index == 0
    bench.executor.step()  # the fsync
    assert (journal.durable_index, journal.durable_sequence) == (2, 2)
    assert bench.durable_calls == 1


def test_one_group_is_in_flight_and_the_next_starts_by_itself() -> None:
    bench = open_bench()
    bench.append(1)
    bench.journal.flush()
    bench.append(1, 1)
    bench.journal.flush()
    assert len(bench.executor.jobs) == 1
    bench.executor.step()
    bench.executor.step()
    assert bench.journal.durable_index == 1
    bench.executor.run()
    assert bench.journal.durable_index == 3
    assert bench.journal.stats().fsyncs == 3  # the one of the opening, and two


def test_rewritten_entries_do_not_count_for_a_sync_that_began_before_them() -> None:
    bench = open_bench()
    bench.append(1, 1, 1)
    bench.journal.flush()
    bench.executor.step()
    # While the fsync of 1..3 runs, another leader replaces 2 and 3.
    bench.journal.deleteEntriesFrom(1)
    bench.append(2, 2, 2)
    bench.journal.setRaftCommitIndex(1)
    assert bench.journal.durable_index == 0
    bench.executor.step()
    assert bench.journal.durable_index == 1
    bench.executor.run()
    assert bench.journal.durable_index == 4


def test_truncation_lowers_the_durable_index_at_once() -> None:
    bench = open_bench()
    bench.append(1, 1, 1)
    bench.settle()
    bench.journal.deleteEntriesFrom(1)
    assert bench.journal.durable_index == 1
    bench.append(2)
    assert bench.journal.durable_index == 1
    bench.settle()
    assert bench.journal.durable_index == 2


def test_term_and_vote_wait_for_the_group() -> None:
    bench = open_bench()
    bench.journal.setCurrentTerm(4, "n2")
    asked = bench.journal.written_sequence
    assert bench.journal.durable_sequence < asked
    bench.settle()
    assert bench.journal.durable_sequence >= asked
    bench.disk.crash(Random(0))
    again = open_bench(bench.disk).journal
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (4, "n2")


def test_an_unchanged_vote_is_not_written_again() -> None:
    bench = open_bench()
    bench.journal.setCurrentTerm(4, "n2")
    before = bench.journal.written_sequence
    bench.journal.setCurrentTerm(4, "n2")
    assert bench.journal.written_sequence == before
    bench.journal.setCurrentTerm(5, None)
    assert bench.journal.written_sequence == before + 1


def test_a_commit_index_alone_causes_no_write_until_the_timer() -> None:
    bench = open_bench()
    bench.append(1, 1)
    bench.settle()
    syncs = bench.disk.syncs
    bench.journal.setRaftCommitIndex(2)
    bench.settle()
    assert bench.disk.syncs == syncs
    bench.journal.onOneSecondTimer()
    bench.executor.run()
    assert bench.disk.syncs == syncs + 1
    assert bench.journal.durable_commit_index == 2
    assert open_bench(bench.disk).journal.getRaftCommitIndex() == 2


def test_a_commit_index_shares_the_group_of_what_it_came_with() -> None:
    bench = open_bench()
    bench.append(1, 1)
    bench.journal.setRaftCommitIndex(2)
    bench.settle()
    assert bench.journal.durable_commit_index == 2
    assert bench.journal.stats().fsyncs == 2
    bench.disk.crash(Random(0))
    assert open_bench(bench.disk).journal.getRaftCommitIndex() == 2


def test_a_commit_index_that_came_during_a_sync_is_not_called_durable_by_it() -> None:
    bench = open_bench()
    bench.append(1, 1)
    bench.journal.setRaftCommitIndex(1)
    bench.journal.flush()
    bench.journal.setRaftCommitIndex(2)
    bench.executor.run()
    assert bench.journal.durable_commit_index == 1


def test_the_commit_index_is_within_the_log_and_at_least_one() -> None:
    bench = open_bench()
    assert bench.journal.getRaftCommitIndex() == 1
    bench.append(1, 1)
    bench.journal.setRaftCommitIndex(2)
    bench.journal.setRaftCommitIndex(1)
    assert bench.journal.getRaftCommitIndex() == 2


def test_the_oldest_unsynced_record_has_an_age() -> None:
    bench = open_bench()
    opened_s = bench.clock.now_s
    since = [bench.journal.oldest_unsynced_since_s]
    bench.append(1)
    since.append(bench.journal.oldest_unsynced_since_s)
    bench.append(1)
    bench.journal.flush()
    bench.append(1)  # the third look at the clock; the second was at the flush
    since.append(bench.journal.oldest_unsynced_since_s)
    bench.executor.step()
    bench.executor.step()
    since.append(bench.journal.oldest_unsynced_since_s)
    bench.executor.run()
    since.append(bench.journal.oldest_unsynced_since_s)
    assert since == [None, opened_s + 1, opened_s + 1, opened_s + 3, None]


def test_every_sync_is_observed() -> None:
    bench = open_bench()
    seen: list[float] = []
    bench.journal.bind(bench.executor, bench.on_durable, bench.failures.append, on_fsync=seen.append)
    bench.append(1)
    bench.settle()
    bench.append(1)
    bench.settle()
    stats = bench.journal.stats()
    assert seen == [1.0, 1.0]
    assert stats.last_fsync_s == 1.0
    assert stats.total_fsync_s == stats.fsyncs * 1.0


def test_a_failed_sync_is_reported_once_and_is_final() -> None:
    bench = open_bench()
    bench.append(1)
    bench.disk.faults.sync_error = True
    bench.settle()
    assert [type(failure) for failure in bench.failures] == [OSError]
    assert bench.journal.durable_index == 0
    assert bench.durable_calls == 0
    with pytest.raises(JournalFailed):
        bench.append(1)
    with pytest.raises(JournalFailed):
        bench.journal.setCurrentTerm(9, None)
    with pytest.raises(JournalFailed):
        bench.journal.sync_blocking()
    bench.journal.flush()
    bench.journal.onOneSecondTimer()
    bench.journal.close()
    assert not bench.executor.jobs
    assert len(bench.failures) == 1


def test_only_the_first_failure_is_reported() -> None:
    bench = open_bench()
    bench.append(1)
    bench.disk.faults.sync_error = True
    bench.settle()
    with pytest.raises(JournalFailed):
        bench.journal.add(b"x", 9, 1)
    assert [type(failure) for failure in bench.failures] == [OSError]


def test_nothing_is_heard_after_a_failure() -> None:
    bench = open_bench()
    bench.append(1)
    bench.journal.flush()
    with pytest.raises(JournalFailed):
        bench.journal.add(b"x", 9, 1)
    bench.executor.run()
    assert (bench.durable_calls, bench.journal.durable_index) == (0, 0)


def test_a_failed_blocking_sync_is_reported_and_raised() -> None:
    bench = open_bench()
    bench.append(1)
    bench.disk.faults.sync_error = True
    with pytest.raises(OSError, match=r"Errno") as failure:
        bench.journal.sync_blocking()
    assert bench.failures == [failure.value]


def test_votes_are_written_on_a_full_disk() -> None:
    bench = open_bench()
    bench.disk.faults.capacity_bytes = bench.disk.used_bytes()
    for term in range(1, 30):
        bench.journal.setCurrentTerm(term, "n1")
        bench.settle()
    assert bench.failures == []
    bench.disk.crash(Random(0))
    assert open_bench(bench.disk).journal.getCurrentTerm() == 29


def test_the_spare_segment_is_used_on_a_full_disk_and_then_it_is_a_failure() -> None:
    bench = open_bench()
    bench.disk.faults.capacity_bytes = bench.disk.used_bytes()
    assert bench.journal.stats().spare_ready
    while bench.journal.stats().segments == 1:
        bench.append(1, size=100)
        bench.settle()
    assert bench.failures == []
    assert not bench.journal.stats().spare_ready
    written = 0
    while not bench.failures:
        written = bench.journal.durable_index
        bench.append(1, size=100)
        bench.settle()
    (failure,) = bench.failures
    assert isinstance(failure, OSError)
    assert failure.errno == errno.ENOSPC
    bench.disk.faults.capacity_bytes = None
    assert open_bench(bench.disk).journal.last_index == written


def test_the_spare_is_reserved_again_when_there_is_room() -> None:
    bench = open_bench()
    bench.disk.faults.capacity_bytes = bench.disk.used_bytes()
    while bench.journal.stats().segments == 1:
        bench.append(1, size=100)
        bench.settle()
    bench.journal.onOneSecondTimer()
    bench.executor.run()
    assert not bench.journal.stats().spare_ready
    bench.disk.faults.capacity_bytes = None
    bench.journal.onOneSecondTimer()
    bench.executor.run()
    assert bench.journal.stats().spare_ready
    assert len(bench.disk.names()) == 3
    assert bench.failures == []


def test_a_spare_that_cannot_be_synced_is_a_failure() -> None:
    bench = open_bench()
    while bench.journal.stats().segments == 1:
        bench.executor.run()
        bench.append(1, size=100)
        bench.journal.flush()
    # Steps of the group in the new segment: reserve, write, fsync, directory.
    for _ in range(4):
        bench.executor.step()
    assert bench.failures == []
    bench.disk.faults.sync_error = True
    bench.executor.run()
    assert len(bench.failures) == 1


def test_sync_blocking_takes_over_a_group_in_flight() -> None:
    bench = open_bench()
    bench.append(1, 1)
    bench.journal.flush()
    bench.executor.step()
    bench.append(1)
    bench.journal.sync_blocking()
    assert bench.journal.durable_index == 3
    bench.executor.run()  # the worker ends its own copy late; nothing changes
    assert bench.journal.durable_index == 3
    assert bench.failures == []
    bench.disk.crash(Random(0))
    assert open_bench(bench.disk).journal.last_index == 3


def test_close_makes_all_durable_and_ends_the_journal() -> None:
    bench = open_bench()
    bench.append(1, 1)
    bench.journal.setRaftCommitIndex(2)
    bench.journal.close()
    bench.journal.close()
    bench.disk.crash(Random(3))
    again = open_bench(bench.disk).journal
    assert (again.last_index, again.getRaftCommitIndex()) == (2, 2)
    with pytest.raises(JournalFailed):
        bench.append(1)
    assert bench.failures == []


def test_an_entry_must_follow_the_last_one() -> None:
    for index, term in ((3, 1), (1, 1), (2, 0)):
        bench = open_bench()
        bench.append(1)
        with pytest.raises(JournalFailed):
            bench.journal.add(b"x", index, term)
        assert [type(failure) for failure in bench.failures] == [JournalConflict]


def test_committed_entries_cannot_be_contradicted() -> None:
    bench = open_bench()
    bench.append(1, 1, 1)
    bench.journal.setRaftCommitIndex(2)
    bench.journal.deleteEntriesFrom(1)
    with pytest.raises(JournalFailed):
        bench.append(2)
    assert [type(failure) for failure in bench.failures] == [JournalConflict]


def test_the_journal_is_fine_with_real_sizes() -> None:
    options = JournalOptions(segment_bytes=1 << 20)
    bench = open_bench(options=options)
    bench.append(*[1] * 20, size=200_000)
    bench.settle()
    assert bench.journal.stats().segments == 1
    bench.append(1)
    bench.settle()
    assert bench.journal.stats().segments == 2
    assert open_bench(bench.disk, options).journal[-2][0] == bench.journal[-2][0]


def test_a_real_directory_serves_as_well(tmp_path: Path) -> None:
    options = JournalOptions(segment_bytes=8192, cache_bytes=0, log_keep_bytes=0)
    disk = DirectoryDisk(tmp_path)
    journal = Journal.open(disk, journal_id=JOURNAL_ID, options=options, clock=SteppingClock(), create=True)
    executor, failures = SteppingExecutor(), list[BaseException]()
    journal.bind(executor, lambda: None, failures.append)
    for index in range(1, 101):
        journal.add(b"x" * 500, index, 1)
        journal.setRaftCommitIndex(index)
        journal.flush()
        executor.run()
    journal.deleteEntriesTo(60)
    journal.flush()
    executor.run()
    assert failures == []
    assert len(disk.names()) == journal.stats().segments + 1 < 8
    journal.close()
    disk.close()

    again = DirectoryDisk(tmp_path)
    journal = Journal.open(again, journal_id=JOURNAL_ID, options=options, clock=SteppingClock(), create=False)
    assert list(journal[0:]) == [(b"x" * 500, index, 1) for index in range(61, 101)]
    assert journal.getRaftCommitIndex() == 100
    journal.close()
    again.close()


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="segment_bytes"):
        JournalOptions(segment_bytes=100)
    with pytest.raises(ValueError, match="negative"):
        JournalOptions(cache_bytes=-1)
    assert SMALL.roll_reserve_bytes == 512
    assert SteppingExecutor().step() is False
