"""Changes of the membership from any node: asked of the leader through the call service, until the time is over.

Every change may be repeated, so a call that was not answered is simply made again, of whoever leads then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from cluster.calls import CallNotSentError
from cluster.membership import Membership
from cluster.replica import (
    CallFailedError,
    MemberChange,
    MembershipRefusedError,
    MemberStatus,
    NotCommittedError,
    OutcomeUnknownError,
    RemoveMember,
)
from statemachine import commands
from statemachine.outcome import Outcome

SERVICE = "members"

_RETRY_S = 0.05
_TRY_S = 2.0
"""One call; a leader that is gone is noticed before that."""

_BUSY_S = 1.0
"""How long a change waits for one that the leader makes by itself."""


_MAY_PASS = frozenset({"membership_busy", "quorum_at_risk"})
"""What the leader does by itself (it pins journals, it promotes) is over in a moment; and a new leader, the one that a
removed leader handed over to, does not know at once who of the others has the log."""


class _Request(msgspec.Struct, array_like=True, frozen=True):
    number: int
    payload: bytes
    timeout_s: float


class _Reply(msgspec.Struct, array_like=True, frozen=True):
    """`again`: this node does not lead (any more), another may do it."""

    members: tuple[MemberStatus, ...] = ()
    refused: tuple[str, str, dict[str, Any] | None] | None = None
    not_committed: tuple[str, str] | None = None
    again: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(_Request).decode
_decode_reply = msgspec.msgpack.Decoder(_Reply).decode


class _Leading(Protocol):
    """What this needs of the node."""

    @property
    def node_id(self) -> str: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def membership(self) -> Membership: ...
    def members(self) -> tuple[MemberStatus, ...]: ...
    async def transfer_leadership(self, to: str | None, timeout_s: float) -> str: ...


class MemberChanges:
    """One node's side of them, as the one that is asked and as the leader."""

    def __init__(self, node: _Leading, call: Callable[[str, bytes, float], Awaitable[bytes]]) -> None:
        self._node = node
        self._call = call
        self._changing = False

    async def change(self, change: MemberChange, timeout_s: float) -> tuple[MemberStatus, ...]:
        """See `Replica.change_members`."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        sent = False
        why = "no leader was reached in time"
        while (left_s := deadline_s - loop.time()) > 0:
            try_s = min(left_s, _TRY_S)
            request = _Request(commands.NUMBERS[type(change)], commands.encode(change), try_s)
            try:
                reply = _decode_reply(await self._call(SERVICE, _encode(request), try_s))
            except CallNotSentError as error:
                why = str(error)
            except CallFailedError as error:
                why, sent = str(error), True
            else:
                if reply.refused is not None:
                    raise MembershipRefusedError(*reply.refused)
                if reply.not_committed is not None:
                    raise NotCommittedError(*reply.not_committed)
                if not reply.again:
                    return reply.members
                why = "the leader changed"
            await asyncio.sleep(min(_RETRY_S, max(0.0, deadline_s - loop.time())))
        if sent:
            raise OutcomeUnknownError(f"the change of the membership was not answered in time: {why}")
        raise NotCommittedError("no_leader", why)

    async def answer(self, _caller_id: str, request: bytes) -> bytes:
        """Of a call, on the leader."""
        try:
            wanted = _decode_request(request)
            change = commands.decode(wanted.number, msgspec.Raw(wanted.payload))
        except (msgspec.DecodeError, KeyError) as error:
            raise CallFailedError(f"malformed change of the membership: {error}") from error
        if not isinstance(change, MemberChange):
            raise CallFailedError(f"command {wanted.number} is no change that may be asked for")
        try:
            return _encode(await self._decide(change, wanted.timeout_s))
        except MembershipRefusedError as refused:
            return _encode(_Reply(refused=(refused.code, refused.detail, refused.data)))
        except NotCommittedError as failed:
            if failed.code == "no_leader":
                return _encode(_Reply(again=True))
            return _encode(_Reply(not_committed=(failed.code, failed.detail)))
        except (OutcomeUnknownError, TimeoutError) as unknown:
            raise CallFailedError(str(unknown) or "the change was not decided in time") from unknown

    async def _decide(self, change: MemberChange, timeout_s: float) -> _Reply:
        if self._changing:
            raise MembershipRefusedError("membership_busy", "another change of the membership is under way")
        self._changing = True
        try:
            async with asyncio.timeout(timeout_s):
                node = self._node
                if isinstance(change, RemoveMember) and self._goes_first(change):
                    await _patiently(lambda: node.membership.check_removal(change))
                    await node.transfer_leadership(None, timeout_s)
                    return _Reply(again=True)
                outcome = await self._propose(change)
                # A voter goes in two steps. The leader makes the second, also if nobody waits for it any more.
                while change.node_id in node.membership.current.leaving and outcome.refusal is None:
                    if not node.is_leader:
                        return _Reply(again=True)
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._changing = False
        if outcome.refusal is not None:
            refusal = outcome.refusal
            raise MembershipRefusedError(refusal.code, refusal.detail, refusal.current)
        return _Reply(members=self._node.members())

    def _goes_first(self, change: RemoveMember) -> bool:
        """Whether it is this leader that is to be removed, and another could lead."""
        node = self._node
        return change.node_id == node.node_id and node.is_leader and len(node.membership.current.voters) > 1

    async def _propose(self, change: MemberChange) -> Outcome:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        await _patiently(lambda: self._node.membership.propose(change, _settle(future)))
        return await future


async def _patiently(attempt: Callable[[], None]) -> None:
    """Try again for a while what is refused for a reason that may pass. Raises MembershipRefusedError."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _BUSY_S
    while True:
        try:
            return attempt()
        except MembershipRefusedError as refused:
            if refused.code not in _MAY_PASS or loop.time() >= until_s:
                raise
        await asyncio.sleep(_RETRY_S)


def _settle(future: asyncio.Future[Outcome]) -> Callable[[Outcome | Exception], None]:
    def waiter(result: Outcome | Exception) -> None:
        if future.done():
            return  # whoever asked has gone
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return waiter
