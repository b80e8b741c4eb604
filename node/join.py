"""Joining a cluster: what a new node asks the others over HTTP before it has anything of its own.

It looks who the members are, proves on a peer port that the secret is theirs, has itself added as a learner, and learns
the members and the cluster's id from which it starts. Each step is harmless to repeat, so that a first start that died
half-way is begun again.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cluster.real.handshake import HandshakeError
from cluster.real.probe import hello_of
from cluster.start import StartError
from node.address import Address

JOIN_TIMEOUT_S = 30.0
"""How long a cluster that has no leader, or changes its members just now, is asked again."""

_REQUEST_S = 6.0
"""One request; the node gives up after five."""

_PROBE_S = 3.0
_ASK_AGAIN_S = 0.25
_REPLY_BYTES_MAX = 1 << 20
_TEXT_MAX = 1_000
_ASK_LATER = frozenset({"membership_busy", "overloaded", "too_stale", "shutting_down", "no_leader"})

log = logging.getLogger("hive.node")


@dataclass(frozen=True, slots=True)
class Joining:
    """What the new node says of itself, and whom it asks (`asked`: HTTP addresses of any members)."""

    asked: tuple[Address, ...]
    node_id: str
    peer_address: str
    http_address: str
    secret: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """What the cluster said. `members` maps node id to peer address, the new node included."""

    cluster_id: str
    members: Mapping[str, str]


class MemberReply(msgspec.Struct):
    """A member as a node shows it; fields that are not needed here are passed over."""

    node_id: str
    peer_address: str
    http_address: str | None = None
    voter: bool = True


class MembersReply(msgspec.Struct):
    """`GET /api/cluster/members`."""

    items: list[MemberReply]


class ProblemReply(msgspec.Struct):
    """A refusal."""

    code: str = ""
    detail: str = ""
    retry: str = "no"


class _Unanswered(Exception):  # noqa: N818 - says what happened, and is asked again
    """No node answered for now; the text is the last reason."""


async def join(joining: Joining, timeout_s: float = JOIN_TIMEOUT_S) -> Joined:
    """Become a learner of the cluster. Raises StartError with one line that names the way out."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    told = ""
    while True:
        try:
            return await _try(joining)
        except _Unanswered as reason:
            if told != (why := _one_line(str(reason))):
                told = why
                log.warning("cannot join yet", extra={"node": joining.node_id, "reason": told})
            if loop.time() + _ASK_AGAIN_S >= deadline_s:
                raise _refusal(
                    f"{reason}; give --join the HTTP address of a running node, such as "
                    f"http://127.0.0.1:7400, and see that a majority of its cluster is up"
                ) from None
            await asyncio.sleep(_ASK_AGAIN_S)


async def _try(joining: Joining) -> Joined:
    cluster_id, members = await _members(joining)
    await _check_secret(joining, cluster_id, members)
    body = {
        "node_id": joining.node_id,
        "peer_address": joining.peer_address,
        "http_address": joining.http_address,
    }
    answer = await _ask(joining.asked, "POST", "/api/cluster/members", msgspec.json.encode(body))
    added = _decoded(answer, MemberReply)
    if added.voter:
        # A voter has acknowledged entries with a journal that is not here.
        raise _refusal(
            f"{joining.node_id} is a voting member already, and its data is not in this directory: bring "
            f"it back; or `hive member remove {joining.node_id}`, and join under a --node-id that was never used"
        )
    cluster_id, members = await _members(joining)
    log.info("joined", extra={"node": joining.node_id, "cluster": cluster_id, "members": len(members)})
    found = {member.node_id: member.peer_address for member in members}
    return Joined(cluster_id, {**found, joining.node_id: joining.peer_address})


async def _members(joining: Joining) -> tuple[str, list[MemberReply]]:
    """(cluster id, members) after everything that was decided before. Raises _Unanswered, StartError."""
    answer = await _ask(joining.asked, "GET", "/api/cluster/members?consistency=linearizable")
    return answer.cluster_id, _decoded(answer, MembersReply).items


async def _check_secret(joining: Joining, cluster_id: str, members: Sequence[MemberReply]) -> None:
    """Have one member prove that it knows our secret, and that it is of the cluster that was asked.

    Raises _Unanswered when none can be reached, StartError for another secret.
    """
    reasons = []
    for member in members:
        if member.node_id == joining.node_id:
            continue
        try:
            hello = await hello_of(member.peer_address, joining.node_id, joining.secret, _PROBE_S)
        except HandshakeError as error:
            raise _refusal(f"{member.node_id} at {member.peer_address}: {error}") from None
        except (OSError, ValueError) as error:
            reasons.append(f"{member.node_id} at {member.peer_address}: {_why(error)}")
            continue
        if hello.get("cluster_id") != cluster_id:
            raise _refusal(
                f"{member.peer_address} belongs to another cluster than {_names(joining.asked)}: give "
                "--join a node of the cluster that is meant"
            )
        return
    # Who founded a cluster alone and without a secret has nobody to listen for.
    alone = ", which listens for others only with --cluster-secret-file" if len(members) == 1 else ""
    raise _Unanswered(f"no peer address of the members can be reached from here ({'; '.join(reasons)}){alone}")


@dataclass(frozen=True, slots=True)
class _Answer:
    cluster_id: str
    body: bytes


async def _ask(asked: Sequence[Address], method: str, target: str, body: bytes = b"") -> _Answer:
    """The answer of the first node that has one. Raises _Unanswered, and StartError for a refusal."""
    reason = "no address is given"
    for address in asked:
        try:
            status, cluster_id, reply = await asyncio.to_thread(_exchange, address, method, target, body)
        except (OSError, http.client.HTTPException) as error:
            reason = f"{address} does not answer ({_why(error)})"
            continue
        if status < 300 and cluster_id:
            return _Answer(cluster_id, reply)
        problem = _problem(reply)
        if not problem.code or not cluster_id:
            raise _refusal(f"{address} answers HTTP {status}, but not as a node of Hive does")
        if problem.retry == "no" and problem.code not in _ASK_LATER:
            raise _refusal(f"{problem.detail}; {_way_out(problem.code)}")
        reason = f"{address} says {problem.code}: {problem.detail}"
    raise _Unanswered(reason)


def _exchange(address: Address, method: str, target: str, body: bytes) -> tuple[int, str, bytes]:
    """(status, cluster id, body) of one request. Blocks. Raises OSError, HTTPException."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_REQUEST_S)
    try:
        connection.request(method, target, body or None, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.getheader("Hive-Cluster", ""), reply.read(_REPLY_BYTES_MAX)
    finally:
        connection.close()


def _problem(body: bytes) -> ProblemReply:
    try:
        return msgspec.json.decode(body, type=ProblemReply)
    except msgspec.DecodeError:
        return ProblemReply()


def _decoded(answer: _Answer, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        raise _refusal(f"the answer cannot be read ({error}); is it of another version?") from None


_WAYS_OUT = {
    "node_id_used": "give a --node-id that was never used, and an empty --data-dir",
    "exists": "give another --node-id, or the addresses with which it was added",
    "invalid_request": "check --node-id, --peer and --http (or --advertise-peer and --advertise-http)",
}


def _refusal(text: str) -> StartError:
    return StartError(f"cannot join: {_one_line(text)}")


def _one_line(text: str) -> str:
    """Whatever others said, on one line that cannot steer a terminal."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:_TEXT_MAX]


def _way_out(code: str) -> str:
    return _WAYS_OUT.get(code, "`hive member list` shows who the members are")


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _names(addresses: Sequence[Address]) -> str:
    return ", ".join(str(address) for address in addresses)
