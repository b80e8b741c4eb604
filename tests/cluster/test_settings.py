"""Settings that cannot work together are refused with their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.real.wire import FRAME_BYTES_MAX
from cluster.settings import Limits, ReplicaOptions, SettingsError, Timings
from statemachine import limits


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"heartbeat_ms": 200}, "election_timeout_min_ms"),
        ({"election_timeout_max_ms": 300}, "election_timeout_max_ms"),
        ({"fallback_ms": 400}, "fallback_ms"),
    ],
)
def test_timings_that_contradict_each_other(fields: dict[str, int], names: str) -> None:
    with pytest.raises(SettingsError, match=names):
        Timings(**fields)


def test_an_entry_always_fits_a_message() -> None:
    """H18: the engine would cut a larger one into chunks."""
    with pytest.raises(SettingsError, match="engine_batch_bytes"):
        Limits(engine_batch_bytes=limits.ENTRY_BYTES_MAX)


def test_a_batch_always_fits_a_frame() -> None:
    """A longer one would cost the connection, again and again."""
    with pytest.raises(SettingsError, match="engine_batch_bytes must be at most"):
        Limits(engine_batch_bytes=FRAME_BYTES_MAX)


@pytest.mark.parametrize(
    ("node_id", "members", "secret", "why"),
    [("n9", {"n1": ""}, b"", "not among the members"), ("n1", {"n1": "", "n2": ""}, b"", "--cluster-secret-file")],
)
def test_options_that_make_no_cluster(node_id: str, members: dict[str, str], secret: bytes, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        ReplicaOptions(node_id, Path("data"), "", "", members, secret, "0")


def test_one_node_needs_no_secret() -> None:
    ReplicaOptions("n1", Path("data"), "", "", {"n1": ""}, b"", "0")
