"""What a new node asks before it has anything of its own: a real API and a real handshake, and what each step says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from cluster.real.handshake import Handshake, HandshakeError
from cluster.real.probe import hello_of
from cluster.real.wire import Decoder, encode
from cluster.replica import AddMember, MembershipRefusedError, MemberStatus, ReplicaStatus
from cluster.start import StartError
from node.address import Address
from node.api.problem import Problem
from node.join import Joined, Joining, join
from tests.node.harness import Node, run, running, until
from tests.node.test_members_api import Members

SECRET = b"a secret of these tests, long enough"
NEWCOMER = MemberStatus("n4", "10.0.0.4:7401", "10.0.0.4:7400", "learner", False, False)


@asynccontextmanager
async def peer_port(cluster_id: str, secret: bytes = SECRET, answer: bytes | None = None) -> AsyncIterator[str]:
    """The address of a member that takes part in handshakes, or says `answer` to everybody."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is not None:
            writer.write(answer)
        else:
            handshake = Handshake(secret, dialer=False, hello={"node_id": "n1", "cluster_id": cluster_id})
            writer.write(encode(handshake.first()))
            decoder, messages = Decoder(), list[Any]()
            while not messages and (data := await reader.read(65_536)):
                messages += decoder.feed(data)
            writer.write(encode(handshake.second(messages[0])))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Stage:
    """A cluster of one node, whose membership the test plays, and a newcomer."""

    def __init__(self, node: Node, peer_address: str) -> None:
        self.node = node
        self.leader = MemberStatus("n1", peer_address, "127.0.0.1:7400", "leader", True, True)
        self.members = Members(node, self.leader, NEWCOMER)
        self.joining = Joining(
            (Address("127.0.0.1", node.port),), "n4", NEWCOMER.peer_address, str(NEWCOMER.http_address), SECRET
        )
        real = node.replica.status

        def status() -> ReplicaStatus:
            members = self.members.members if self.members.asked else (self.leader,)
            return replace(real(), members=members)

        node.replica.status = status  # type: ignore[method-assign]  # who the members are is said by the test

    async def refusal(self, **changes: Any) -> str:
        """The one line with which the start ends."""
        with pytest.raises(StartError) as caught:
            await join(replace(self.joining, **changes), timeout_s=0)
        text = str(caught.value)
        assert text.startswith("cannot join: ")
        assert "\n" not in text
        return text


def on_stage(
    scenario: Callable[[Stage], Awaitable[None]], secret: bytes = SECRET, cluster_id: str | None = None
) -> None:
    async def whole() -> None:
        async with running() as node, peer_port(cluster_id or node.replica.cluster_id, secret) as address:
            await scenario(Stage(node, address))

    run(whole())


def test_a_node_is_added_and_learns_members_and_cluster() -> None:
    async def scenario(stage: Stage) -> None:
        joined = await join(stage.joining)
        members = {"n1": stage.leader.peer_address, "n4": "10.0.0.4:7401"}
        assert joined == Joined(stage.node.replica.cluster_id, members)
        assert stage.members.asked[0][0] == AddMember("n4", "10.0.0.4:7401", "10.0.0.4:7400")
        assert await join(stage.joining) == joined, "a first start that died half-way begins again"

    on_stage(scenario)


def test_any_of_the_given_nodes_will_do() -> None:
    async def scenario(stage: Stage) -> None:
        dead = Address("127.0.0.1", 1)
        joined = await join(replace(stage.joining, asked=(dead, *stage.joining.asked)))
        assert set(joined.members) == {"n1", "n4"}

    on_stage(scenario)


def test_what_passes_is_waited_for() -> None:
    async def scenario(stage: Stage) -> None:
        stage.members.error = MembershipRefusedError("membership_busy", "n5 is being added")
        joining = asyncio.create_task(join(stage.joining))
        await until(lambda: len(stage.members.asked) == 2)
        stage.members.error = None
        assert set((await joining).members) == {"n1", "n4"}

    on_stage(scenario)


def test_another_secret_is_noticed_before_the_node_becomes_a_member() -> None:
    async def scenario(stage: Stage) -> None:
        text = await stage.refusal()
        assert "n1" in text
        assert "the cluster secret differs: give all nodes the same --cluster-secret-file" in text
        assert stage.members.asked == []

    on_stage(scenario, secret=b"quite another secret, long enough")


def test_a_peer_port_of_another_cluster_is_noticed() -> None:
    async def scenario(stage: Stage) -> None:
        assert "belongs to another cluster" in await stage.refusal()
        assert stage.members.asked == []

    on_stage(scenario, cluster_id="c0ffee")


def test_a_peer_port_that_cannot_be_reached_is_named() -> None:
    async def scenario(stage: Stage) -> None:
        stage.leader = replace(stage.leader, peer_address="127.0.0.1:1")
        text = await stage.refusal()
        assert "no peer address of the members can be reached from here (n1 at 127.0.0.1:1: " in text
        assert stage.members.asked == []

    on_stage(scenario)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MembershipRefusedError("id_used", "n4 was removed"), ["n4 was removed", "never used", "empty --data-dir"]),
        (MembershipRefusedError("exists", "n4 is at 10.0.0.9:7401"), ["10.0.0.9:7401", "give another --node-id"]),
        (MembershipRefusedError("conflict", "no secret was given"), ["no secret was given"]),
        (MembershipRefusedError("membership_busy", "n5 is being added"), ["membership_busy", "n5 is being added"]),
        (Problem("no_leader", "nobody leads"), ["no_leader", "a majority"]),
    ],
    ids=["used", "exists", "conflict", "busy", "no_leader"],
)
def test_what_the_cluster_refuses_is_said_with_a_way_out(error: Exception, words: list[str]) -> None:
    async def scenario(stage: Stage) -> None:
        stage.members.error = error
        text = await stage.refusal()
        for word in words:
            assert word in text

    on_stage(scenario)


def test_a_voter_that_lost_its_data_is_told_so() -> None:
    async def scenario(stage: Stage) -> None:
        stage.members.members = (stage.leader, replace(NEWCOMER, role="follower", voter=True))
        text = await stage.refusal()
        assert "n4 is a voting member already" in text
        assert "hive member remove n4" in text

    on_stage(scenario)


def test_nobody_there_and_somebody_else_there() -> None:
    async def scenario(stage: Stage) -> None:
        text = await stage.refusal(asked=(Address("127.0.0.1", 1),))
        assert "127.0.0.1:1 does not answer" in text
        assert "give --join the HTTP address of a running node" in text
        for said in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        ):
            async with peer_port("", answer=said) as other:
                text = await stage.refusal(asked=(Address("127.0.0.1", int(other.rpartition(":")[2])),))
                assert "not as a node of Hive does" in text
        async with peer_port("", answer=b"SSH-2.0-other\r\n") as other:
            text = await stage.refusal(asked=(Address("127.0.0.1", int(other.rpartition(":")[2])),))
            assert "does not answer" in text

    on_stage(scenario)


def test_a_peer_port_that_is_none_is_no_member() -> None:
    async def test() -> None:
        for said in (b"HTTP/1.1 400 Bad Request\r\n\r\n", encode({"x": 1}) * 2, encode([1]) * 2):
            async with peer_port("", answer=said) as address:
                with pytest.raises(HandshakeError):
                    await hello_of(address, "n4", SECRET, 10)
        async with peer_port("c1") as address:
            assert await hello_of(address, "n4", SECRET, 10) == {"node_id": "n1", "cluster_id": "c1"}

    run(test())
