"""Entries from memory and from disk look the same."""

from __future__ import annotations

import pytest

from cluster.journal import JournalDamaged, JournalFailed, JournalOptions
from cluster.journal.cache import EntryCache
from cluster.journal.slices import LogSlice
from cluster.memory_disk import MemoryDisk
from tests.cluster.journal.stepping import Bench, open_bench

FIRST = "00000000000000000000.seg"
ROOMY = JournalOptions(segment_bytes=4096, cache_bytes=1 << 20)


class CountingDisk(MemoryDisk):
    """Counts reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def read(self, name: str, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read(name, offset, length)


def written(entries: int, disk: MemoryDisk | None = None) -> Bench:
    bench = open_bench(disk or MemoryDisk(), create=True)
    for _ in range(entries):
        bench.append(1, size=100)
        bench.settle()
    return bench


def test_positions_count_from_both_ends() -> None:
    bench = written(50)
    journal = bench.journal
    everything = [journal[position] for position in range(50)]
    assert [entry[1] for entry in everything] == list(range(1, 51))
    assert all(entry[0].startswith(f"{entry[1]}.1.".encode()) for entry in everything)
    assert [journal[position] for position in range(-50, 0)] == everything
    for outside in (50, -51):
        with pytest.raises(IndexError):
            journal[outside]


def test_a_slice_is_lazy() -> None:
    disk = CountingDisk()
    journal = written(200, disk).journal
    before = disk.reads
    part = journal[5:]
    assert isinstance(part, LogSlice)
    assert len(part) == 195
    assert part
    assert not journal[200:]
    assert disk.reads == before
    assert part[0][1] == 6
    assert disk.reads == before + 1


def test_slices_agree_with_lists() -> None:
    journal = written(20).journal
    whole = list(journal[0:])
    for start in (0, 1, 7, 19, 20, 30, -3):
        for stop in (None, 0, 5, 20, 25, -1):
            part = journal[start:stop]
            expected = whole[start:stop]
            assert list(part) == expected
            assert len(part) == len(expected)
            assert part[:3] == expected[:3]
            assert part[1:] == expected[1:]
            assert list(reversed(part)) == expected[::-1]
            if expected:
                assert (part[0], part[-1]) == (expected[0], expected[-1])
    with pytest.raises(ValueError, match="step"):
        journal[0:10:2]
    with pytest.raises(IndexError):
        journal[3:5][2]


def test_a_part_of_a_slice_outlives_the_log() -> None:
    bench = written(5)
    part = bench.journal[1:][:3]
    bench.journal.deleteEntriesFrom(1)
    bench.append(2)
    assert [entry[2] for entry in part] == [1, 1, 1]


def test_a_scan_reads_in_large_pieces() -> None:
    disk = CountingDisk()
    bench = written(200, disk)
    before = disk.reads
    assert len(list(bench.journal[0:])) == 200
    assert disk.reads - before <= bench.journal.stats().segments + 1


def test_what_is_not_durable_is_in_memory() -> None:
    disk = CountingDisk()
    bench = written(5, disk)
    bench.append(*[1] * 50, size=100)
    bench.journal.flush()
    bench.append(*[1] * 50, size=100)
    before = disk.reads
    assert [entry[1] for entry in bench.journal[5:]] == list(range(6, 106))
    assert disk.reads == before
    bench.executor.step()
    bench.executor.step()
    assert bench.journal.durable_index == 55
    assert [entry[1] for entry in bench.journal[55:]] == list(range(56, 106))
    assert disk.reads == before
    bench.settle()
    assert [entry[1] for entry in bench.journal[5:]] == list(range(6, 106))
    assert disk.reads > before


def test_a_piece_read_early_does_not_hide_what_is_written_behind_it() -> None:
    bench = written(3)
    assert bench.journal[0][1] == 1
    for _ in range(5):
        bench.append(1, size=100)
        bench.settle()
    assert [entry[1] for entry in bench.journal[0:]] == list(range(1, 9))


def test_the_first_entry_is_kept_at_hand() -> None:
    disk = CountingDisk()
    bench = written(30, disk)
    assert bench.journal[0][1] == 1
    before = disk.reads
    for _ in range(5):
        assert bench.journal[0][1] == 1
        bench.append(1)
        bench.settle()
    assert disk.reads == before
    bench.journal.deleteEntriesTo(10)
    assert bench.journal[0][1] == 11


def test_a_roomy_cache_saves_the_disk() -> None:
    disk = CountingDisk()
    bench = open_bench(disk, ROOMY, create=True)
    for _ in range(100):
        bench.append(1, size=100)
        bench.settle()
    before = disk.reads
    assert len(list(bench.journal[0:])) == 100
    assert disk.reads == before
    assert bench.journal.stats().cached_bytes == 100 * 260


def test_the_cache_is_bounded() -> None:
    options = JournalOptions(segment_bytes=1 << 20, cache_bytes=10_000)
    bench = open_bench(options=options)
    for _ in range(1000):
        bench.append(1, size=100)
        bench.settle()
        assert bench.journal.stats().cached_bytes <= 10_000
    assert [entry[1] for entry in bench.journal[0:]] == list(range(1, 1001))


def test_the_cache_counts_what_is_cut_off() -> None:
    cache = EntryCache(1, 1 << 20)
    for index in range(1, 11):
        cache.append((b"x" * 40, index, 1))
    cache.truncate(6)
    assert cache.cached_bytes == 5 * 200
    cache.evict(4, 3)
    assert (cache.get(2), cache.cached_bytes) == (None, 3 * 200)
    cache.truncate(2)
    cache.append((b"y" * 40, 2, 1))
    assert cache.get(2) == (b"y" * 40, 2, 1)
    assert cache.cached_bytes == 200
    cache.evict(3, 3)
    assert (cache.get(2), cache.cached_bytes) == (None, 0)


def test_a_read_error_ends_the_journal() -> None:
    bench = written(30)
    bench.disk.faults.read_error = True
    with pytest.raises(JournalFailed):
        bench.journal[3]
    with pytest.raises(JournalFailed):
        bench.journal[3]
    assert [type(failure) for failure in bench.failures] == [OSError]


def test_a_damaged_entry_ends_the_journal() -> None:
    bench = written(5)
    bench.disk.corrupt(FIRST, bench.journal._log.table.offset(3) + 30)
    assert bench.journal[1][1] == 2
    with pytest.raises(JournalFailed):
        list(bench.journal[0:])
    (failure,) = bench.failures
    assert isinstance(failure, JournalDamaged)
    assert FIRST in str(failure)


def test_terms_and_bytes_need_no_disk() -> None:
    bench = written(30)
    bench.disk.faults.read_error = True
    journal = bench.journal
    assert (journal.term_at(1), journal.term_at(30), journal.term_at(31), journal.term_at(0)) == (1, 1, None, None)
    assert journal.bytes_behind(1) == 0
    assert 100 * 10 < journal.bytes_behind(11) < 200 * 10
    assert journal.bytes_behind(31) == journal.total_bytes == journal.stats().total_bytes
    assert len(journal) == journal.stats().entries == 30
