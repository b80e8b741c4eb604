"""How soon states are compared: a node that was started is compared all round first, and holds up nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cluster.agreement import Agreement
from cluster.memory_state import MemoryState
from cluster.state import Position

Message = dict[str, Any]
TERM, INDEX = 3, 7
PIECES = 4
ITEMS = PIECES * 1_000


class _AtOnce:
    """An executor that is never busy."""

    def submit(self, steps: Sequence[Callable[[], None]], done: Callable[[BaseException | None], None]) -> None:
        for step in steps:
            step()
        done(None)


class _Cluster:
    """Three nodes at the same entry, and the messages between them. `n1` leads."""

    def __init__(self) -> None:
        self.states = {node_id: _state() for node_id in ("n1", "n2", "n3")}
        self.silent: set[str] = set()
        self.differs: list[str] = []
        self.nodes: dict[str, Agreement] = {}
        for node_id in self.states:
            self.start(node_id)

    def start(self, node_id: str) -> None:
        """As a fresh process with the state it had."""

        def send(peer_id: str, message: Message) -> bool:
            if {node_id, peer_id} & self.silent:
                return False
            hear = {"state_digest": "on_answer", "state_check": "on_check"}.get(message["type"])
            if hear is None:
                self.nodes[peer_id].on_verdict(message)
            else:
                getattr(self.nodes[peer_id], hear)(node_id, message)
            return True

        def broadcast(message: Message) -> None:
            for peer_id in self.nodes.keys() - {node_id}:
                send(peer_id, message)

        def fail(error: BaseException) -> None:
            raise error

        self.nodes[node_id] = Agreement(
            node_id,
            self.states[node_id],
            _AtOnce(),
            voters=lambda: ("n1", "n2", "n3"),
            send=send,
            broadcast=broadcast,
            on_differs=lambda _: self.differs.append(node_id),
            on_failure=fail,
        )

    def is_quick(self) -> bool:
        """Whether the leader is about to ask again at once."""
        return self.nodes["n1"].quick

    def compared(self) -> list[str]:
        """Who was compared all round."""
        return [node_id for node_id, node in self.nodes.items() if node.compared]

    def ask(self) -> None:
        self.nodes["n1"].ask(TERM, INDEX, TERM)

    def asked_quickly(self) -> int:
        """How many pieces are asked for before the leader is at ease."""
        count = 0
        while self.is_quick():
            self.ask()
            count += 1
            assert count < 100
        return count


def _state() -> MemoryState:
    state = MemoryState()
    state.store.apply([(b"k%06d" % number, b"value") for number in range(ITEMS)])
    state.position = Position(INDEX, TERM, b"chain")
    return state


@pytest.fixture
def cluster() -> _Cluster:
    """A cluster that has compared everything once."""
    made = _Cluster()
    made.ask()
    made.asked_quickly()
    assert made.compared() == ["n1", "n2", "n3"]
    return made


def test_a_new_cluster_is_compared_once_and_then_at_ease() -> None:
    cluster = _Cluster()
    assert not cluster.is_quick()
    cluster.ask()
    assert cluster.compared() == []
    assert cluster.asked_quickly() == PIECES - 1
    assert cluster.compared() == ["n1", "n2", "n3"]
    cluster.ask()
    assert not cluster.is_quick()


def test_who_was_restarted_is_compared_all_round(cluster: _Cluster) -> None:
    cluster.ask()
    cluster.start("n3")
    cluster.ask()
    assert cluster.is_quick()
    assert "n3" not in cluster.compared()
    cluster.asked_quickly()
    assert "n3" in cluster.compared()
    assert cluster.differs == []


def test_what_a_disk_changed_is_found_in_the_first_round(cluster: _Cluster) -> None:
    cluster.states["n3"].store.apply([(b"k%06d" % (ITEMS - 1), b"valve")])
    cluster.start("n3")
    cluster.ask()
    assert cluster.differs == []
    cluster.asked_quickly()
    assert cluster.differs == ["n3"]


def test_who_is_silent_holds_up_nobody(cluster: _Cluster) -> None:
    cluster.start("n2")
    cluster.start("n3")
    cluster.ask()
    assert cluster.is_quick()
    cluster.silent = {"n3"}
    cluster.ask()
    assert not cluster.is_quick(), "its answer may still come"
    cluster.ask()
    assert cluster.is_quick(), "at the next time that was due anyway, n2 alone counts"
    cluster.asked_quickly()
    assert "n2" in cluster.compared()
    assert "n3" not in cluster.compared()
    cluster.silent = set()
    cluster.ask()
    cluster.asked_quickly()
    assert "n3" in cluster.compared()


def test_a_node_of_before_is_compared_at_the_common_pace(cluster: _Cluster) -> None:
    cluster.ask()
    answer = {"type": "state_digest", "n": PIECES + 1, "term": TERM, "index": INDEX, "digest": b""}
    cluster.nodes["n1"].on_answer("n3", answer)
    assert not cluster.is_quick()
    cluster.nodes["n1"].on_answer("n3", answer | {"compared": False})
    assert cluster.is_quick()
