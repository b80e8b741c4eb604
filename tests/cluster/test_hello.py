"""What a peer says of itself is checked in form before in content: it is kept, written to disk, logged and shown."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.messages import PROTOCOL_VERSION
from cluster.peers import Peers


def _peers(node_id: str) -> Peers:
    return Peers(
        node_id=node_id,
        cluster_id="c",
        journal_id=b"j" * 16,
        members={"n1": "", "n2": ""},
        http_address="h",
        version="1",
        fresh=False,
        journal_ids={},
        remember=lambda _ids, _held: None,
    )


_FIELDS = [
    "protocol",
    "cluster_id",
    "node_id",
    "journal_id",
    "last_index",
    "last_term",
    "run",
    "http_address",
    "version",
]


@pytest.mark.parametrize("name", _FIELDS)
@pytest.mark.parametrize("value", [None, [], 1.5, True, 10**12, "x", b"x"])
def test_a_field_of_another_kind_is_refused(name: str, value: Any) -> None:
    hello = _peers("n2").hello(10, 2)
    if type(value) is type(hello[name]):
        return
    reason = _peers("n1").refuse("n2", hello | {name: value})
    assert reason is not None
    assert name in reason


@pytest.mark.parametrize("name", _FIELDS)
def test_a_missing_field_is_refused(name: str) -> None:
    hello = _peers("n2").hello(10, 2)
    del hello[name]
    reason = _peers("n1").refuse("n2", hello)
    assert reason is not None
    assert name in reason


@pytest.mark.parametrize("name", ["http_address", "version", "cluster_id", "journal_id"])
def test_endless_fields_are_refused(name: str) -> None:
    hello = _peers("n2").hello(10, 2)
    reason = _peers("n1").refuse("n2", hello | {name: hello[name] * 1000})
    assert reason is not None
    assert "too long" in reason
    assert len(reason) < 100


def test_a_later_protocol_may_say_other_things_of_itself() -> None:
    reason = _peers("n1").refuse("n2", {"protocol": PROTOCOL_VERSION + 1, "node": 2})
    assert reason is not None
    assert "upgrade the older node" in reason


def test_a_hello_older_than_what_its_sender_acknowledged_is_no_loss_unless_it_was_restarted() -> None:
    """It may have begun a connection while another one still carried acknowledgements."""
    ours, peer = _peers("n1"), _peers("n2")
    peer.run = 7
    early = peer.hello(1, 1)
    ours.met("n2", early)
    ours.holds_at_least("n2", 32)
    assert ours.refuse("n2", early) is None
    peer.run = 8
    reason = ours.refuse("n2", peer.hello(1, 1))
    assert reason is not None
    assert "lost log entries it once acknowledged" in reason
    assert ours.refuse("n2", peer.hello(32, 1)) is None
