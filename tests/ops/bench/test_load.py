from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from hive_client.testing import FakeHive

from ops.bench import wrk
from ops.bench.etcd import put_shot, serializable_read_shot
from ops.bench.generator import Generator
from ops.bench.http import plan_loads
from ops.bench.load import RUN_STEP, Shot, fill, fire
from ops.edge import CommandError

CREATE = Shot("POST", "/api/tasks", '{"task_id":"t{n}"}')


def test_numbers_never_come_again_and_keys_do() -> None:
    assert fill("a{n}b{k}", 7) == "a000000000007b0007"
    assert fill("{k}", 1007) == "0007"
    assert len(fill("{n}", 99 * RUN_STEP)) == 12


def test_etcd_shots_are_valid_base64_in_json() -> None:
    import base64

    put = json.loads(fill(put_shot(100).body, 5))
    assert len(base64.b64decode(put["value"])) == 100
    assert base64.b64decode(put["key"], validate=True)
    assert base64.b64decode(json.loads(fill(serializable_read_shot().body, 5))["key"], validate=True)


def test_loads_are_the_same_size_on_both_sides() -> None:
    import base64

    load = plan_loads([1])[0]
    assert load.etcd is not None
    value = json.loads(fill(load.etcd.body, 0))["value"]
    assert len(base64.b64decode(value)) == len(load.hive.body)


def test_own_generator_counts_what_was_answered() -> None:
    async def scenario() -> None:
        async with FakeHive() as fake:
            figures = await fire(fake.url, CREATE, connections=3, seconds=0.05, first=RUN_STEP)
            assert figures.errors == 0
            assert figures.requests == len(fake.tasks()) >= 3
            assert figures.rate > 0
            assert {task.task_id[:3] for task in fake.tasks()} == {"t01"}

    asyncio.run(scenario())


def test_refusals_are_errors_and_no_units() -> None:
    async def scenario() -> None:
        async with FakeHive() as fake:
            figures = await fire(fake.url, Shot("GET", "/api/tasks/none"), connections=1, seconds=0.02, first=0)
            assert figures.errors == figures.requests > 0
            assert figures.rate == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("own", [True, False])
def test_generators_are_processes_with_the_same_answer(tmp_path: Path, own: bool) -> None:
    if not own and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")

    async def scenario() -> None:
        async with FakeHive() as fake:
            generator = Generator(tmp_path, own=own)
            assert generator.name == ("asyncio" if own else "wrk")
            for _ in range(2):
                figures = await generator.fire(fake.url, CREATE, 2, 1.0 if not own else 0.1)
                assert figures.errors == 0
                assert figures.requests > 0
            # The second run had numbers of its own: every request made a task, none met an older one.
            statuses = {request.status for request in fake.requests}
            assert statuses == {201}
            assert {task.task_id[:3] for task in fake.tasks()} == {"t01", "t02"}

    asyncio.run(scenario())


def test_a_generator_that_fails_is_one_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(CommandError, match="failed"):
            await Generator(tmp_path, own=True).fire("http://127.0.0.1:1", CREATE, 1, 0.1)

    asyncio.run(scenario())


def test_wrk_output_without_figures_is_an_error() -> None:
    with pytest.raises(CommandError, match="no figures"):
        wrk.parse("unable to connect", 1)


def test_wrk_figures() -> None:
    output = (
        'x\nhive-figures {"requests": 110, "us": 2000000, "status": 10, "broken": 1, "p50": 1500.0, "p99": 9000.0}\n'
    )
    figures = wrk.parse(output, units=2)
    assert (figures.rate, figures.p50_ms, figures.p99_ms) == (100.0, 1.5, 9.0)
    assert (figures.requests, figures.errors) == (110, 11)
