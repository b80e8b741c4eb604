"""Handing over leadership from any node: who does not lead asks the leader to do it."""

from __future__ import annotations

import asyncio

import msgspec

from cluster.replica import CallFailedError, NotCommittedError, Replica
from node.duties.messages import HAND_OVER, HandOverReply, HandOverRequest

INVALID = "invalid"

_encode = msgspec.msgpack.Encoder().encode
_requests = msgspec.msgpack.Decoder(HandOverRequest)
_replies = msgspec.msgpack.Decoder(HandOverReply)


class HandOver:
    """The asking and the answering side of one node."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        replica.serve(HAND_OVER, self._on_request)

    async def hand_over(self, to: str | None, timeout_s: float) -> tuple[str, int]:
        """Let `to` lead (None: whoever is most caught up) -> (who leads now, its term).

        Raises ValueError for what is no member, NotCommittedError, CallFailedError.
        """
        replica = self._replica
        if replica.is_leader:
            return await replica.transfer_leadership(to, timeout_s), replica.term
        before, deadline_s = replica.term, asyncio.get_running_loop().time() + timeout_s
        request = _encode(HandOverRequest(to, round(timeout_s * 1_000)))
        try:
            reply = _replies.decode(await replica.call_leader(HAND_OVER, request, timeout_s))
        except CallFailedError:
            # The old leader's answer is lost when the new one is heard of first.
            await self._next_leader(deadline_s)
            if replica.term > before and replica.leader_id is not None and to in (None, replica.leader_id):
                return replica.leader_id, replica.term
            raise
        if reply.code == INVALID:
            raise ValueError(reply.detail)
        if reply.code:
            raise NotCommittedError(reply.code, reply.detail)
        return reply.leader_id, reply.term

    async def _next_leader(self, deadline_s: float) -> None:
        """Wait until a leader is known."""
        replica, changed = self._replica, asyncio.Event()
        forget = replica.on_role_change(changed.set)
        try:
            async with asyncio.timeout_at(deadline_s):
                while replica.leader_id is None:
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return
        finally:
            forget()

    async def _on_request(self, _: str, data: bytes) -> bytes:
        request = _requests.decode(data)
        try:
            leader_id = await self._replica.transfer_leadership(request.to, request.timeout_ms / 1_000)
        except ValueError as error:
            return _encode(HandOverReply(INVALID, str(error)))
        except NotCommittedError as error:
            return _encode(HandOverReply(error.code, error.detail))
        return _encode(HandOverReply("", "", leader_id, self._replica.term))
