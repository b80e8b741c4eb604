"""The examples run, against the fake over HTTP, exactly as a user starts them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import hive_client
import pytest
from hive_client import Client
from hive_client.testing import FakeHive

from tests.clients.running import async_test, until

CLIENTS = Path(hive_client.__file__).parent.parent
EXAMPLES = CLIENTS / "examples"


async def started(path: Path, fake: FakeHive) -> asyncio.subprocess.Process:
    environment = {**os.environ, "HIVE_ENDPOINTS": fake.url, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(CLIENTS)}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, str(path), env=environment, stdout=pipe, stderr=pipe)


async def output(process: asyncio.subprocess.Process) -> str:
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


@async_test
async def test_quickstart() -> None:
    async with FakeHive() as fake:
        assert await output(await started(EXAMPLES / "quickstart.py", fake)) == "completed Hello, Hive!\n"


@async_test
async def test_session_log() -> None:
    async with FakeHive() as fake:
        lines = (await output(await started(EXAMPLES / "session_log.py", fake))).splitlines()
    assert lines[0] == "somebody wrote up to 3; read first, then decide"
    assert lines[-1] == "3 events, 120 tokens in"


@async_test
async def test_worker_does_its_tasks_and_ends_on_sigterm(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one two three")
    async with FakeHive() as fake, Client(fake.url) as client:
        process = await started(EXAMPLES / "worker.py", fake)
        payload = {"paths": [str(tmp_path / "text")]}
        count = await client.tasks.create(type="count_words", payload=payload)
        total = await client.tasks.create(type="sum_up", depends_on=[count.task_id])
        assert (await client.tasks.wait(total.task_id)).result == 3
        process.send_signal(signal.SIGTERM)
        await output(process)


@async_test
async def test_watch_changes_shows_what_happens(tmp_path: Path) -> None:
    async with FakeHive() as fake, Client(fake.url) as client:
        await client.tasks.create(task_id="before")
        process = await started(EXAMPLES / "watch_changes.py", fake)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"1 tasks at revision 1\n"
        await client.tasks.create(task_id="after")
        assert await process.stdout.readline() == b"2 task.created after\n"
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 0


@pytest.mark.parametrize("number", [0])
@async_test
async def test_the_first_program_of_the_readme_works_when_pasted(number: int, tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", (CLIENTS / "README.md").read_text(), re.DOTALL)
    async with FakeHive() as fake:
        pasted = tmp_path / "pasted.py"
        pasted.write_text(programs[number].replace("http://127.0.0.1:7400,http://127.0.0.1:7410", fake.url))
        assert await output(await started(pasted, fake)) == "Hello, Hive!\n"
        await until(lambda: fake.tasks()[0].status == "completed")
