"""Logs as crashes and bad disks leave them: a torn end is cut off, damage to what was durable stops the start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hive_client import Client

from tests.process.log_files import Written, cut, flip_bit, newest_segment, overwrite, tear_last_entry
from tests.process.lone_node import Options, alone, bytes_of, refusal_of, running
from tests.process.running import async_test

pytestmark = pytest.mark.process

SESSION = "s"
EVENTS = 20


async def append(client: Client, count: int) -> None:
    for _ in range(count):
        await client.sessions.append(SESSION, type="custom.line", data={"text": "kept" * 10})


async def seqs(client: Client) -> list[int]:
    return [event.seq async for event in client.sessions.iterate_events(SESSION)]


async def killed_after_writes(options: Options, log_path: Path) -> Written:
    """A node with a session of EVENTS events, killed; the segment they are in."""
    async with running(options, log_path) as node:
        await node.ready()
        await node.client.sessions.create(session_id=SESSION)
        await append(node.client, EVENTS)
        await node.process.kill()
    return newest_segment(options.data_dir)


def garbage_behind(segment: Written) -> None:
    overwrite(segment.path, segment.end, b"\xa5" * 5_000)


def half_a_group_behind(segment: Written) -> None:
    """The begin of a group that was being written: its first bytes are those of a real one."""
    data = segment.path.read_bytes()
    overwrite(segment.path, segment.end, data[segment.groups[-1] : (segment.groups[-1] + segment.end) // 2])


def reserve_lost(segment: Written) -> None:
    """The file ends where its data does."""
    cut(segment.path, segment.end)


def reserve_cut_in_a_torn_group(segment: Written) -> None:
    overwrite(segment.path, segment.end, b"\xa5" * 100)
    cut(segment.path, segment.end + 100)


@pytest.mark.parametrize("tear", [garbage_behind, half_a_group_behind, reserve_lost, reserve_cut_in_a_torn_group])
@async_test(limit_s=60)
async def test_torn_end_is_cut_off(tmp_path: Path, tear: Callable[[Written], None]) -> None:
    options = alone(tmp_path / "n1")
    tear(await killed_after_writes(options, tmp_path / "log"))
    for start in (1, 2):
        async with running(options, tmp_path / "log") as node:
            await node.ready()
            assert await seqs(node.client) == list(range(1, EVENTS + start))
            await append(node.client, 1)
            await node.process.kill()


@async_test(limit_s=60)
async def test_write_the_disk_lied_about_is_gone_from_the_state_too(tmp_path: Path) -> None:
    """State and log must tell the same story, also when the log's last entry did not survive and the state did."""
    options = alone(tmp_path / "n1")
    await killed_after_writes(options, tmp_path / "log")
    tear_last_entry(options.data_dir)
    async with running(options, tmp_path / "log") as node:
        await node.ready()
        assert await seqs(node.client) == list(range(1, EVENTS))
        await append(node.client, 3)
        assert await seqs(node.client) == list(range(1, EVENTS + 3))
        assert await node.stop() == 0


@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
@async_test(limit_s=60)
async def test_damage_to_what_was_durable_stops_the_start(tmp_path: Path, part: float) -> None:
    options = alone(tmp_path / "n1")
    segment = await killed_after_writes(options, tmp_path / "log")
    position = segment.groups[int(len(segment.groups) * part)] + 40
    flip_bit(segment.path, position)
    before = bytes_of(options.data_dir)
    refusal = await refusal_of(options.words)
    assert refusal.status == 1
    assert "the log is damaged" in refusal.error
    assert segment.path.name in refusal.error
    assert "nothing was changed" in refusal.error
    assert bytes_of(options.data_dir) == before
    flip_bit(segment.path, position)
    async with running(options, tmp_path / "log") as node:
        await node.ready()
        assert len(await seqs(node.client)) == EVENTS
        assert await node.stop() == 0
