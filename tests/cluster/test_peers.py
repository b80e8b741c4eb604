"""Who is let in, and who may vote."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.messages import PROTOCOL_VERSION
from cluster.peers import JOURNAL_UNKNOWN, Peers


def peers(node_id: str = "n1", *, size: int = 3, fresh: bool = False, known: dict[str, bytes] | None = None) -> Peers:
    remembered: list[tuple[dict[str, bytes], dict[str, int]]] = []
    made = Peers(
        node_id=node_id,
        cluster_id="c",
        journal_id=node_id.encode() * 8,
        members={f"n{number}": "" for number in range(1, size + 1)},
        http_address="h",
        version="1.2.3",
        fresh=fresh,
        journal_ids=known or {},
        remember=lambda journal_ids, held: remembered.append((journal_ids, held)),
    )
    made.remembered = remembered  # type: ignore[attr-defined]  # what would be on disk
    return made


def hello(node_id: str = "n2", **fields: Any) -> dict[str, Any]:
    return peers(node_id).hello(10, 2) | fields


def test_a_member_is_let_in_and_remembered() -> None:
    mine = peers()
    assert mine.refuse("n2", hello()) is None
    mine.met("n2", hello())
    assert mine.remembered == [({"n2": b"n2" * 8}, {})]  # type: ignore[attr-defined]  # see above
    assert mine.known["n2"].version == "1.2.3"
    mine.met("n2", hello())
    assert len(mine.remembered) == 1  # type: ignore[attr-defined]  # see above


@pytest.mark.parametrize(
    ("peer_id", "fields", "why"),
    [
        ("n2", {"protocol": PROTOCOL_VERSION + 1}, "protocol"),
        ("n2", {"cluster_id": "d"}, "another cluster"),
        ("n1", {"node_id": "n1"}, "not one of the other members"),
        ("n9", {"node_id": "n9"}, "not one of the other members"),
        ("n2", {"node_id": "n3"}, "not one of the other members"),
    ],
)
def test_others_are_refused(peer_id: str, fields: dict[str, Any], why: str) -> None:
    reason = peers().refuse(peer_id, hello(**fields))
    assert reason is not None
    assert why in reason


def test_a_known_node_with_another_journal_is_refused() -> None:
    """H15: it has forgotten its votes and what it acknowledged."""
    reason = peers(known={"n2": b"old"}).refuse("n2", hello())
    assert reason is not None
    assert reason.startswith(f"{JOURNAL_UNKNOWN}: node n2 ")


def test_a_log_that_became_shorter_is_refused() -> None:
    mine = peers()
    mine.holds_at_least("n2", 11)
    mine.holds_at_least("n2", 5)
    reason = mine.refuse("n2", hello())
    assert reason is not None
    assert reason.startswith(f"{JOURNAL_UNKNOWN}: node n2 ")
    assert mine.refuse("n2", hello(last_index=11)) is None


@pytest.mark.parametrize(("size", "others"), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_an_empty_node_hears_a_majority_beside_itself_before_it_votes(size: int, others: int) -> None:
    mine = peers(size=size, fresh=True)
    for number in range(2, others + 2):
        assert not mine.may_vote()
        mine.met(f"n{number}", hello(f"n{number}"))
    assert mine.may_vote()


def test_a_node_with_a_log_votes_at_once() -> None:
    assert peers().may_vote()
