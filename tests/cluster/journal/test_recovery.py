"""Opening: what is taken back, what is cut, and when a node must not start."""

from __future__ import annotations

import copy
import struct
from random import Random

import pytest

from cluster.journal import (
    Journal,
    JournalDamaged,
    JournalError,
    JournalExists,
    JournalForeign,
    JournalMissing,
    JournalOptions,
    JournalVersion,
    records,
)
from cluster.journal.recovery import recover
from cluster.memory_disk import MemoryDisk
from tests.cluster.journal.stepping import JOURNAL_ID, SMALL, Bench, SteppingClock, open_bench

FIRST = "00000000000000000000.seg"
SECOND = "00000000000000000001.seg"


def three_groups() -> tuple[Bench, list[int]]:
    """A journal of three groups after the one of its making, and where in the file each group ends."""
    bench = open_bench()
    ends = [bench.journal._log.writer.durable_end]
    for term in (1, 2, 3):
        bench.append(term, term)
        bench.journal.setCurrentTerm(term, f"n{term}")
        bench.settle()
        ends.append(bench.journal._log.writer.durable_end)
    return bench, ends


def content(disk: MemoryDisk) -> dict[str, bytes]:
    return {name: disk.read(name, 0, disk.size(name)) for name in disk.names()}


def filled(segments: int, *, size: int = 300) -> Bench:
    bench = open_bench()
    while bench.journal.stats().segments < segments:
        bench.append(1, size=size)
        bench.settle()
    return bench


def test_everything_comes_back() -> None:
    bench, _ = three_groups()
    bench.journal.setRaftCommitIndex(5)
    bench.journal.sync_blocking()
    before = list(bench.journal[0:])
    again = open_bench(bench.disk).journal
    assert list(again[0:]) == before
    assert (again.getCurrentTerm(), again.getVotedForNodeId(), again.getRaftCommitIndex()) == (3, "n3", 5)
    assert (again.first_index, again.last_index, again.last_term, again.durable_index) == (1, 6, 3, 6)


def test_a_torn_last_group_is_cut_at_every_length() -> None:
    bench, ends = three_groups()
    whole = bench.disk.read(FIRST, 0, SMALL.segment_bytes)
    for length in range(ends[2], ends[3]):
        disk = copy.deepcopy(bench.disk)
        disk.write(FIRST, length, bytes(ends[3] - length))
        disk.sync(FIRST)
        again = open_bench(disk)
        assert again.journal.last_index == 4, length
        assert again.journal.getCurrentTerm() == 2
        # What was half there is gone from the disk too, and the journal goes on behind it.
        assert disk.size(FIRST) == (ends[2] if length > ends[2] else SMALL.segment_bytes)
        assert disk.read(FIRST, 0, ends[2]) == whole[: ends[2]]
        again.append(7)
        again.settle()
        disk.crash(Random(length))
        assert [entry[2] for entry in open_bench(disk).journal[0:]] == [1, 1, 2, 2, 7]


def test_a_cut_is_durable_before_the_journal_goes_on() -> None:
    bench, ends = three_groups()
    disk = bench.disk
    disk.corrupt(FIRST, ends[3] - 1)
    open_bench(disk)
    disk.crash(Random(1))
    assert disk.size(FIRST) == ends[2]


def test_damage_to_what_was_durable_refuses_to_start_and_changes_nothing() -> None:
    bench, ends = three_groups()
    for offset in range(ends[2]):
        disk = copy.deepcopy(bench.disk)
        disk.corrupt(FIRST, offset)
        before = content(disk)
        with pytest.raises((JournalDamaged, JournalVersion)) as refusal:
            open_bench(disk)
        assert content(disk) == before, offset
        text = str(refusal.value)
        assert "\n" not in text
        assert "nothing was changed" in text


def test_damage_is_told_with_the_way_out() -> None:
    bench, ends = three_groups()
    bench.disk.corrupt(FIRST, ends[1] - 5)
    with pytest.raises(JournalDamaged, match=rf"{FIRST} at byte {ends[0]}, .*hive resync"):
        open_bench(bench.disk)


def test_a_closed_journal_vouches_for_its_last_group() -> None:
    bench, ends = three_groups()
    bench.journal.close()
    bench.disk.corrupt(FIRST, ends[3] - 1)
    with pytest.raises(JournalDamaged):
        open_bench(bench.disk)


def test_an_opened_journal_vouches_for_what_it_recovered() -> None:
    bench, ends = three_groups()
    open_bench(bench.disk)
    bench.disk.corrupt(FIRST, ends[3] - 1)
    with pytest.raises(JournalDamaged):
        open_bench(bench.disk)


def test_what_was_recovered_is_synced_before_it_counts() -> None:
    bench, _ = three_groups()
    bench.append(4)
    bench.journal.flush()
    bench.executor.step()  # written, not synced: the process dies, the machine does not
    again = open_bench(bench.disk)
    assert again.journal.durable_index == 7
    bench.disk.crash(Random(5))
    assert open_bench(bench.disk).journal.last_index == 7


def test_a_group_in_a_command_is_no_proof_of_durability() -> None:
    # Somebody stores what looks like the next group of this journal; only the journal id is unknown to him.
    forged = records.pack_group_header(records.salt_of(b"?" * 16), 1 << 40, 0)
    bench, ends = three_groups()
    bench.journal.add(b"a" * 50 + forged + b"b" * 50, 7, 3)
    bench.settle()
    bench.disk.corrupt(FIRST, ends[3] + 40)
    assert open_bench(bench.disk).journal.last_index == 6


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_damage_in_a_full_segment_refuses(name: str) -> None:
    bench = filled(3)
    bench.disk.corrupt(name, 1000)
    with pytest.raises(JournalDamaged, match=name):
        open_bench(bench.disk)


def test_damaged_headers_refuse() -> None:
    for name in (FIRST, SECOND):
        bench = filled(3)
        bench.disk.corrupt(name, 40)
        with pytest.raises(JournalDamaged, match=name):
            open_bench(bench.disk)


def test_a_damaged_header_of_the_last_segment_refuses_if_more_was_durable() -> None:
    bench = filled(2)
    bench.append(1)
    bench.settle()
    bench.disk.corrupt(SECOND, 0)
    with pytest.raises(JournalDamaged):
        open_bench(bench.disk)


def test_a_damaged_header_refuses_also_when_there_is_no_spare_to_tell() -> None:
    bench = filled(1)
    bench.disk.faults.capacity_bytes = bench.disk.used_bytes()
    while bench.journal.stats().segments == 1 or bench.journal.last_term == 1:
        bench.append(bench.journal.stats().segments, size=100)
        bench.settle()
    assert len(bench.disk.names()) == 2
    bench.disk.corrupt(SECOND, 0)
    with pytest.raises(JournalDamaged, match=SECOND):
        open_bench(bench.disk)


def test_a_missing_segment_refuses() -> None:
    bench = filled(4)
    bench.disk.delete(SECOND)
    with pytest.raises(JournalDamaged, match="missing"):
        open_bench(bench.disk)


def test_a_missing_first_segment_refuses() -> None:
    bench = filled(3)
    bench.disk.delete(FIRST)
    with pytest.raises(JournalDamaged, match="entries 1 to"):
        open_bench(bench.disk)


def test_an_exchanged_segment_refuses() -> None:
    bench = filled(3)
    bench.disk.rename(FIRST, SECOND)
    with pytest.raises(JournalDamaged, match="another name"):
        open_bench(bench.disk)


def test_a_torn_beginning_of_a_segment_is_begun_again() -> None:
    for seed in range(60):
        bench = filled(1)
        while bench.journal.stats().segments == 1:
            last = bench.journal.durable_index
            bench.append(1, size=300)
            bench.journal.flush()
            if bench.journal.stats().segments == 1:
                bench.executor.run()
        bench.executor.step()  # the spare is there
        bench.executor.step()  # written, not synced
        bench.disk.crash(Random(seed))
        again = open_bench(bench.disk)
        assert again.journal.last_index in (last, last + 1)
        again.append(2)
        again.settle()
        bench.disk.crash(Random(seed))
        assert open_bench(bench.disk).journal.last_term == 2


def test_no_second_spare_is_made_before_the_first_is_written() -> None:
    bench = filled(1)
    writer = bench.journal._log.writer
    while writer.end <= SMALL.segment_bytes - SMALL.roll_reserve_bytes:
        bench.settle()
        bench.append(1, size=300)
    last = bench.journal.last_index
    bench.journal.flush()
    bench.append(1)  # begins the next segment while the last group of this one is in flight
    assert bench.journal.stats().segments == 2
    bench.journal.onOneSecondTimer()
    for _ in range(5):
        bench.executor.step()
    bench.disk.crash(Random(0))
    assert open_bench(bench.disk).journal.last_index == last


def test_a_spare_that_is_not_empty_is_made_again() -> None:
    bench, _ = three_groups()
    bench.disk.write(SECOND, 2000, b"remains of a torn write")
    open_bench(bench.disk)
    assert bench.disk.read(SECOND, 0, 5000) == bytes(SMALL.segment_bytes)


def test_what_was_recovered_is_synced_also_when_its_segment_is_full() -> None:
    bench = filled(1)
    writer = bench.journal._log.writer
    while writer.end <= SMALL.segment_bytes - SMALL.roll_reserve_bytes:
        bench.settle()
        bench.append(1, size=300)
    last = bench.journal.last_index
    bench.journal.flush()
    bench.executor.step()  # written, not synced
    again = open_bench(bench.disk)
    assert again.journal.stats().segments == 2
    for seed in range(10):
        disk = copy.deepcopy(bench.disk)
        disk.crash(Random(seed))
        assert open_bench(disk).journal.last_index == last


def begun_without_a_spare() -> Bench:
    """A full disk has cost the spare; with a little room again a group that needs a new segment is in flight."""
    bench = filled(1)
    bench.disk.faults.capacity_bytes = bench.disk.used_bytes()
    while bench.journal.stats().segments < 3:
        bench.settle()
        assert bench.failures == []
        bench.append(1, size=300)
    bench.disk.faults.capacity_bytes += SMALL.segment_bytes
    bench.journal.flush()
    return bench


def test_the_name_of_a_segment_is_durable_with_its_first_group() -> None:
    bench = begun_without_a_spare()
    bench.executor.run()
    last = bench.journal.durable_index
    assert last == bench.journal.last_index
    for seed in range(10):
        disk = copy.deepcopy(bench.disk)
        disk.crash(Random(seed))
        assert open_bench(disk).journal.last_index == last


def test_the_name_of_a_recovered_segment_is_durable() -> None:
    bench = begun_without_a_spare()
    for _ in range(3):
        bench.executor.step()  # made, written, synced; the directory is not
    again = open_bench(bench.disk).journal
    assert not again.stats().spare_ready
    last = again.durable_index
    assert last == bench.journal.last_index
    for seed in range(10):
        disk = copy.deepcopy(bench.disk)
        disk.crash(Random(seed))
        assert open_bench(disk).journal.last_index == last


def test_the_spare_is_durable_with_its_blocks() -> None:
    for seed in range(20):
        bench = filled(2)
        before = {name: bench.disk.size(name) for name in bench.disk.names()}
        bench.disk.crash(Random(seed))
        assert {name: bench.disk.size(name) for name in bench.disk.names()} == before


def test_a_spare_of_another_size_is_made_again() -> None:
    bench = open_bench()
    bigger = JournalOptions(segment_bytes=8192)
    again = open_bench(bench.disk, bigger)
    again.append(1)
    again.settle()
    # The first segment has no 8192 bytes reserved, so it is left.
    assert bench.disk.size(SECOND) == 8192
    assert open_bench(bench.disk, bigger).journal.last_index == 1


def test_a_newer_format_is_refused() -> None:
    bench, _ = three_groups()
    bench.disk.write(FIRST, 8, struct.pack("<I", 2))
    before = content(bench.disk)
    with pytest.raises(JournalVersion, match="newer release"):
        open_bench(bench.disk)
    assert content(bench.disk) == before


def test_a_record_of_a_newer_kind_is_refused() -> None:
    bench, _ = three_groups()
    log = bench.journal._log
    log.writer.append(records.pack_index(records.salt_of(JOURNAL_ID), 99, 1))
    bench.settle()
    with pytest.raises(JournalVersion, match="kind 99"):
        open_bench(bench.disk)


def test_another_journals_segments_are_refused() -> None:
    bench, _ = three_groups()
    with pytest.raises(JournalForeign):
        Journal.open(bench.disk, journal_id=b"o" * 16, options=SMALL, clock=SteppingClock(), create=False)


def test_an_empty_directory_is_not_a_journal() -> None:
    with pytest.raises(JournalMissing, match="hive resync"):
        open_bench(MemoryDisk(), create=False)


def test_a_used_journal_is_never_made_anew() -> None:
    bench = open_bench()
    bench.journal.setCurrentTerm(1, None)
    bench.settle()
    before = content(bench.disk)
    with pytest.raises(JournalExists):
        open_bench(bench.disk, create=True)
    assert content(bench.disk) == before


def test_an_unfinished_making_is_made_again() -> None:
    for seed in range(30):
        disk = MemoryDisk()
        rng = Random(seed)
        for _ in range(3):
            open_bench(disk, create=True)
            disk.crash(rng)
        open_bench(disk, create=True).append(1)


def test_a_new_journal_survives_a_crash_at_once() -> None:
    for seed in range(20):
        disk = MemoryDisk()
        open_bench(disk, create=True)
        disk.crash(Random(seed))
        assert len(open_bench(disk).journal) == 0


def test_a_journal_id_has_its_length() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Journal.open(MemoryDisk(), journal_id=b"x", options=SMALL, clock=SteppingClock(), create=True)


def test_other_files_are_left_alone() -> None:
    bench, _ = three_groups()
    bench.disk.create("notes.txt")
    open_bench(bench.disk)
    assert "notes.txt" in bench.disk.names()


def test_an_unreadable_disk_is_an_error_of_the_opening() -> None:
    bench, _ = three_groups()
    bench.disk.faults.read_error = True
    with pytest.raises(OSError, match=r"Errno"):
        open_bench(bench.disk)


def test_no_flipped_byte_is_ever_taken_for_content() -> None:
    """Whatever byte changes: refused, or what comes back is a beginning of what was written."""
    bench = filled(2, size=700)
    bench.append(2, size=50)
    bench.settle()
    written = list(bench.journal[0:])
    for name in bench.disk.names():
        for offset in range(0, bench.disk.size(name), 7):
            disk = copy.deepcopy(bench.disk)
            disk.corrupt(name, offset)
            try:
                again = open_bench(disk).journal
            except JournalError:
                continue
            recovered = list(again[0:])
            assert recovered == written[: len(recovered)]
            assert len(recovered) >= len(written) - 1


def test_what_a_failed_sync_left_in_memory_is_written_again() -> None:
    """Also when the group begins a segment, whose header is then no more durable than the rest."""
    for segments in (1, 2):
        bench = filled(1)
        while bench.journal.stats().segments < segments:
            bench.settle()
            bench.append(1, size=300)
        last = bench.journal.last_index + (segments == 1)
        if segments == 1:
            bench.append(1, size=2000)
        bench.disk.faults.sync_error = True
        bench.settle()
        assert bench.failures != []
        bench.disk.faults.sync_error = False
        assert open_bench(bench.disk).journal.durable_index == last
        for seed in range(10):
            disk = copy.deepcopy(bench.disk)
            disk.crash(Random(seed))
            assert open_bench(disk).journal.last_index == last


def test_only_the_last_group_is_written_again() -> None:
    bench, ends = three_groups()
    bench.journal.flush()
    before = bench.disk.read(FIRST, 0, ends[-1])
    group = recover(bench.disk, JOURNAL_ID, SMALL).last
    assert group is not None
    assert (group.segment, group.offset, group.data) == (0, ends[-2], before[ends[-2] :])
