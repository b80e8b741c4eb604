"""Changing members: what the routes ask of the replica, and how its answers are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.replica import (
    AddMember,
    MemberChange,
    MembershipRefusedError,
    MemberStatus,
    NotCommittedError,
    OutcomeUnknownError,
    PromoteMember,
    RemoveMember,
    UpdateMember,
)
from tests.node.harness import Node, with_node
from tests.node.test_conventions import refused

LEADER = MemberStatus("n1", "127.0.0.1:7401", "127.0.0.1:7400", "leader", True, True)
NEW = {"node_id": "n4", "peer_address": "10.0.0.4:7401", "http_address": "10.0.0.4:7400"}
LEARNER = MemberStatus("n4", "10.0.0.4:7401", "10.0.0.4:7400", "learner", False, False)


class Members:
    """In place of a cluster's membership: says what the test wants said, and keeps what it was asked."""

    def __init__(self, node: Node, *members: MemberStatus) -> None:
        self.members = members
        self.error: Exception | None = None
        self.asked: list[tuple[MemberChange, float]] = []
        node.replica.change_members = self.change  # type: ignore[method-assign]  # a cluster that can grow

    async def change(self, change: MemberChange, timeout_s: float) -> tuple[MemberStatus, ...]:
        self.asked.append((change, timeout_s))
        if self.error is not None:
            raise self.error
        return self.members

    @property
    def last(self) -> MemberChange:
        return self.asked[-1][0]


def test_a_node_is_added_as_a_learner() -> None:
    async def test(node: Node) -> None:
        members = Members(node, LEADER, LEARNER)
        added = await node.post("/api/cluster/members?timeout_ms=3000", NEW)
        assert (added.status, added.headers["Location"]) == (202, "/api/cluster/members/n4")
        assert (added.json["node_id"], added.json["role"], added.json["voter"]) == ("n4", "learner", False)
        assert (added.json["peer_address"], added.json["http_address"]) == ("10.0.0.4:7401", "10.0.0.4:7400")
        assert added.headers["Hive-Consistency"] == "linearizable"
        assert members.last == AddMember("n4", "10.0.0.4:7401", "10.0.0.4:7400")
        assert 2.0 < members.asked[0][1] <= 3.0
        members.members = (LEADER, replace(LEARNER, role="follower", voter=True))
        assert (await node.post("/api/cluster/members", NEW)).status == 200, "nothing is still to come"
        await node.post("/api/cluster/members", {**NEW, "peer_address": "[2001:db8::4]:7401"})
        assert members.last == AddMember("n4", "[2001:db8::4]:7401", "10.0.0.4:7400")

    with_node(test)


def test_a_learner_is_promoted_and_a_member_moves() -> None:
    async def test(node: Node) -> None:
        voter = replace(LEARNER, role="follower", voter=True)
        members = Members(node, LEADER, voter)
        bodies: list[dict[str, str] | None] = [None, {}]
        for body in bodies:
            promoted = await node.post("/api/cluster/members/n4/promote", body)
            assert (promoted.status, promoted.json["voter"]) == (200, True)
            assert members.last == PromoteMember("n4")
        moved = await node.ask("PUT", "/api/cluster/members/n4", {"peer_address": "10.0.0.5:7401"})
        assert (moved.status, moved.json["node_id"]) == (200, "n4")
        assert members.last == UpdateMember("n4", "10.0.0.5:7401", None)
        await node.ask("PUT", "/api/cluster/members/n4", {"http_address": "host4.example:7400"})
        assert members.last == UpdateMember("n4", None, "host4.example:7400")
        members.members = (LEADER,)
        refused(await node.post("/api/cluster/members/n4/promote"), "not_found")

    with_node(test)


def test_who_remains_after_a_removal() -> None:
    async def test(node: Node) -> None:
        members = Members(node, LEADER)
        for _ in range(2):
            removed = await node.ask("DELETE", "/api/cluster/members/n4")
            assert removed.status == 200
            assert removed.json["next_cursor"] is None
            assert [member["node_id"] for member in removed.json["items"]] == ["n1"]
            assert removed.json["items"][0]["version"] == "0.1.0"
            assert members.last == RemoveMember("n4")

    with_node(test)


ARITHMETIC = {"voters": 2, "quorum": 2, "live": 1}


@pytest.mark.parametrize(
    ("error", "code", "current"),
    [
        (MembershipRefusedError("membership_busy", "n5 is being added"), "membership_busy", None),
        (MembershipRefusedError("quorum_at_risk", "1 of 2", ARITHMETIC), "quorum_at_risk", ARITHMETIC),
        (MembershipRefusedError("exists", "elsewhere", {"node_id": "n4"}), "exists", {"node_id": "n4"}),
        (MembershipRefusedError("not_found", "no member n4"), "not_found", None),
        (MembershipRefusedError("id_used", "was removed"), "node_id_used", None),
        (MembershipRefusedError("not_caught_up", "behind", {"lag_entries": 9}), "conflict", {"lag_entries": 9}),
        (MembershipRefusedError("conflict", "no secret"), "conflict", None),
        (NotCommittedError("no_leader", "nobody leads"), "no_leader", None),
        (OutcomeUnknownError("cut"), "outcome_unknown", None),
    ],
    ids=lambda value: getattr(value, "code", None),
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/cluster/members", NEW),
        ("POST", "/api/cluster/members/n4/promote", {}),
        ("PUT", "/api/cluster/members/n4", {"http_address": "10.0.0.4:1"}),
        ("DELETE", "/api/cluster/members/n4", None),
    ],
    ids=["add", "promote", "update", "remove"],
)
def test_refusals(
    method: str, path: str, body: dict[str, str] | None, error: Exception, code: str, current: Any
) -> None:
    async def test(node: Node) -> None:
        Members(node, LEADER).error = error
        answer = await node.ask(method, path, body)
        refused(answer, code)
        assert answer.json.get("current") == current

    with_node(test)


BAD_ADDRESSES = ("", "7401", "host", "host:", ":7401", "host:0", "host:65536", "host:x", "a b:1", "a\n:1", "0.0.0.0:1",
                 "[::]:1", "[x::y]:1", "h" * 260 + ":1", "http://h:1")  # fmt: skip


@pytest.mark.parametrize("address", BAD_ADDRESSES)
@pytest.mark.parametrize("field", ["peer_address", "http_address"])
def test_addresses_that_nobody_could_reach_are_refused_by_name(field: str, address: str) -> None:
    async def test(node: Node) -> None:
        members = Members(node, LEADER, LEARNER)
        refused(await node.post("/api/cluster/members", {**NEW, field: address}), "invalid_request", field)
        refused(await node.ask("PUT", "/api/cluster/members/n4", {field: address}), "invalid_request", field)
        assert members.asked == []

    with_node(test)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "node_id"),
        ({"node_id": "n4", "peer_address": "a:1"}, "http_address"),
        ({**NEW, "node_id": "n 4"}, "node_id"),
        ({**NEW, "node_id": ""}, "node_id"),
        ({**NEW, "node_id": ".."}, "node_id"),
        ({**NEW, "node_id": "claim"}, "node_id"),
        ({**NEW, "node_id": "n" * 129}, "node_id"),
        ({**NEW, "node_id": 4}, "node_id"),
        ({**NEW, "voter": True}, "voter"),
    ],
)
def test_bad_bodies_name_the_field(body: dict[str, Any], field: str) -> None:
    async def test(node: Node) -> None:
        members = Members(node, LEADER)
        refused(await node.post("/api/cluster/members", body), "invalid_request", field)
        assert members.asked == []

    with_node(test)


def test_bad_changes_of_one_member_name_the_field() -> None:
    async def test(node: Node) -> None:
        members = Members(node, LEADER)
        path = "/api/cluster/members/n4"
        refused(await node.ask("PUT", path, {}), "invalid_request", "peer_address")
        refused(await node.ask("PUT", path, {"node_id": "n5"}), "invalid_request", "node_id")
        refused(await node.post(path + "/promote", {"now": True}), "invalid_request", "now")
        refused(await node.ask("DELETE", "/api/cluster/members/n%204"), "invalid_request", "node_id")
        refused(await node.ask("DELETE", path + "?timeout_ms=0"), "invalid_request", "timeout_ms")
        refused(await node.ask("PATCH", path, {}), "method_not_allowed")
        assert members.asked == []

    with_node(test)


def test_a_member_from_learner_to_gone_over_a_real_replica() -> None:
    async def test(node: Node) -> None:
        assert (await node.post("/api/cluster/members", NEW)).status == 202
        assert (await node.post("/api/cluster/members", NEW)).status == 202
        listed = (await node.get("/api/cluster/members")).json["items"]
        assert [(member["node_id"], member["role"]) for member in listed] == [("n1", "leader"), ("n4", "learner")]
        shown = await node.get("/api/cluster/members/n4?until=voter")
        assert (shown.json["voter"], shown.json["peer_address"]) == (False, "10.0.0.4:7401")
        other = await node.post("/api/cluster/members", {**NEW, "http_address": "10.0.0.9:7400"})
        refused(other, "exists")
        assert other.json["current"]["http_address"] == "10.0.0.4:7400"
        refused(await node.post("/api/cluster/members/n4/promote"), "conflict")
        moved = await node.ask("PUT", "/api/cluster/members/n4", {"http_address": "10.0.0.9:7400"})
        assert (moved.json["peer_address"], moved.json["http_address"]) == ("10.0.0.4:7401", "10.0.0.9:7400")
        for _ in range(2):
            left = await node.ask("DELETE", "/api/cluster/members/n4")
            assert [member["node_id"] for member in left.json["items"]] == ["n1"]
        refused(await node.get("/api/cluster/members/n4"), "not_found")
        refused(await node.post("/api/cluster/members", NEW), "node_id_used")
        refused(await node.ask("DELETE", "/api/cluster/members/n1"), "quorum_at_risk")
        refused(await node.ask("DELETE", "/api/cluster/members/n9"), "not_found")
        refused(await node.ask("PUT", "/api/cluster/members/n9", {"http_address": "a:1"}), "not_found")

    with_node(test)
