from __future__ import annotations

import socket

from ops.status import gauges
from tests.ops.command_line import Stage, hive, on_stage


def test_one_row_for_each_node() -> None:
    async def scenario(stage: Stage) -> None:
        rows = await stage.document("status", "--only-endpoints")
        assert [row["endpoint"] for row in rows] == [stage.fake.url]
        assert rows[0]["is_leader"] is True
        assert rows[0]["errors"] == []
        table = (await stage.hive("status", "--only-endpoints")).stdout
        assert "APPLIED INDEX" in table
        assert stage.fake.url in table

    on_stage(scenario)


def test_a_node_that_does_not_answer_is_a_row_and_a_failure() -> None:
    async def scenario(stage: Stage) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
            dead = f"http://127.0.0.1:{taken.getsockname()[1]}"
            printed = await stage.hive(
                "status", "--only-endpoints", "--endpoints", f"{dead},{stage.fake.url}", "--json"
            )
        assert printed.status == 1
        assert [row["node_id"] is None for row in printed.document] == [True, False]
        assert printed.document[0]["errors"] == ["unreachable"]
        assert dead in printed.stderr

    on_stage(scenario)


def test_gauges_are_read_from_the_text_form() -> None:
    text = '# TYPE hive_a gauge\nhive_a 1.5e+06\nhive_ab 3.0\nhive_c{x="1"} 9.0\n'
    assert gauges(text, ("hive_a", "hive_c", "hive_d")) == {"hive_a": 1_500_000}


def test_an_endpoint_that_is_none_is_a_usage_error() -> None:
    printed = hive("--endpoints", "ftp://x", "status")
    assert printed.status == 2
    assert "ftp://x" in printed.stderr
