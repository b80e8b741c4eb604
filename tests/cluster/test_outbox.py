"""What promises something about the disk leaves when the disk has it, and in order."""

from __future__ import annotations

from typing import Any

from cluster.outbox import Outbox

Sent = list[tuple[str, Any]]


def _outbox(sent: Sent) -> Outbox:
    def send(peer_id: str, message: dict[str, Any]) -> bool:
        sent.append((peer_id, message["n"]))
        return True

    return Outbox(send)


def test_nothing_leaves_before_it_is_durable() -> None:
    sent: Sent = []
    outbox = _outbox(sent)
    outbox.hold("n2", 5, {"n": 1})
    outbox.release(4)
    assert sent == []
    outbox.release(5)
    assert sent == [("n2", 1)]


def test_later_answers_do_not_overtake_earlier_ones() -> None:
    sent: Sent = []
    outbox = _outbox(sent)
    outbox.hold("n2", 5, {"n": 1})
    outbox.hold("n2", 3, {"n": 2})
    outbox.release(4)
    assert sent == []
    outbox.release(9)
    assert sent == [("n2", 1), ("n2", 2)]


def test_peers_do_not_wait_for_each_other() -> None:
    sent: Sent = []
    outbox = _outbox(sent)
    outbox.hold("n2", 5, {"n": 1})
    outbox.hold("n3", 2, {"n": 2})
    outbox.release(2)
    assert sent == [("n3", 2)]


def test_a_lost_connection_takes_its_answers_along() -> None:
    sent: Sent = []
    outbox = _outbox(sent)
    outbox.hold("n2", 1, {"n": 1})
    outbox.forget("n2")
    outbox.release(9)
    assert sent == []
