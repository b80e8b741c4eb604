from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ops.bench.command import bytes_of
from ops.bench.join import Latencies, Plan, run
from ops.edge import UsageError


def test_latencies_of_a_phase() -> None:
    figures = Latencies.of([float(n) for n in range(1_000, 0, -1)], errors=3)
    assert figures == Latencies(writes=1_000, errors=3, p50_ms=501.0, p99_ms=991.0, p999_ms=1_000.0, worst_ms=1_000.0)
    assert Latencies.of([], 0) == Latencies(0, 0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.process
def test_a_node_joins_while_writes_go_on(tmp_path: Path) -> None:
    said: list[str] = []
    plan = Plan(state_bytes=4 << 20, connections=2, seconds=0.2, options=("--promote-stable-ms", "100"))
    figures = asyncio.run(run(tmp_path, plan, said.append))
    assert figures.state_bytes >= plan.state_bytes, "what was written is in the state"
    assert 0 < figures.caught_up_s <= figures.voter_s
    assert 0 < figures.shipping.writes <= figures.during.writes
    assert figures.before.writes > 0
    assert (figures.before.errors, figures.during.errors) == (0, 0)
    assert figures.before.p50_ms <= figures.before.p99_ms <= figures.before.worst_ms
    assert set(figures.to_json()["during"]) >= {"p50_ms", "p99_ms", "p999_ms"}
    assert "100 % of 4.2 MB written" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1GiB", 1 << 30), ("64 MiB", 64 << 20), ("3kb", 3_000), ("12", 12), ("5gb", 5 * 10**9)],
)
def test_sizes(text: str, expected: int) -> None:
    assert bytes_of(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "GiB", "1TiB", "1.5GiB", "9" * 13])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="say for example"):
        bytes_of(text)
