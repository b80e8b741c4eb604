"""How a node asks the leader's memory: signs of life of one moment travel together, the rest one by one."""

from __future__ import annotations

import asyncio

import msgspec

from cluster.replica import CallFailedError, Replica
from node.duties import messages
from node.duties.messages import (
    Beat,
    BeatAnswer,
    BeatReply,
    BeatRequest,
    ClaimReply,
    ClaimRequest,
    ExplainReply,
    ExplainRequest,
    LiveReply,
    LiveRequest,
    PollsReply,
    PollsRequest,
)
from node.duties.services import NO_LEADER

BEATS_PER_CALL_MAX = 1_000

_encode = msgspec.msgpack.Encoder().encode
_beat_reply = msgspec.msgpack.Decoder(BeatReply)
_polls_reply = msgspec.msgpack.Decoder(PollsReply)
_claim_reply = msgspec.msgpack.Decoder(ClaimReply)
_live_reply = msgspec.msgpack.Decoder(LiveReply)
_explain_reply = msgspec.msgpack.Decoder(ExplainReply)


class LeaderCalls:
    """Calls of this node. Every method raises CallFailedError when no sure leader answered in time."""

    def __init__(self, replica: Replica, *, timeout_ms: int) -> None:
        self._replica = replica
        self._timeout_s = timeout_ms / 1000
        self._waiting: list[tuple[Beat, asyncio.Future[BeatAnswer]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def beat(self, beat: Beat) -> BeatAnswer:
        """A sign of life; see `messages.Beat`."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[BeatAnswer] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.append((beat, answer))
        return await answer

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), BEATS_PER_CALL_MAX):
            task = asyncio.get_running_loop().create_task(self._call(waiting[start : start + BEATS_PER_CALL_MAX]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, waiting: list[tuple[Beat, asyncio.Future[BeatAnswer]]]) -> None:
        try:
            answers = await self._ask([beat for beat, _ in waiting])
        except CallFailedError as error:
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), result in zip(waiting, answers, strict=True):
            if not answer.done():
                answer.set_result(result)

    async def _ask(self, beats: list[Beat]) -> tuple[BeatAnswer, ...]:
        request = BeatRequest(self._replica.run_id, tuple(beats))
        data = await self._replica.call_leader(messages.BEAT, _encode(request), self._timeout_s)
        try:
            reply = _beat_reply.decode(data)
        except msgspec.DecodeError as error:
            raise CallFailedError(f"the leader's answer is not understood: {error}") from error
        _check(reply.code)
        if len(reply.answers) != len(beats):
            # Whoever waits for a beat must hear something: no answer at all would hold up its agent for good.
            raise CallFailedError(f"the leader answered {len(reply.answers)} of {len(beats)} beats")
        return reply.answers

    async def polls(self, wait_ms: int) -> PollsReply:
        """Which polls of this node a newer one elsewhere has ended; waits for some."""
        request = _encode(PollsRequest(self._replica.run_id, wait_ms))
        data = await self._replica.call_leader(messages.POLLS, request, self._timeout_s + wait_ms / 1000)
        reply = _polls_reply.decode(data)
        _check(reply.code)
        return reply

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        """Tasks for an agent."""
        timeout_s = self._timeout_s + request.wait_ms / 1000
        reply = _claim_reply.decode(await self._replica.call_leader(messages.CLAIM, _encode(request), timeout_s))
        _check(reply.code)
        return reply

    async def live(self, request: LiveRequest, timeout_s: float) -> LiveReply:
        """What only the leader knows."""
        reply = _live_reply.decode(await self._replica.call_leader(messages.LIVE, _encode(request), timeout_s))
        _check(reply.code)
        return reply

    async def explain(self, request: ExplainRequest, timeout_s: float) -> ExplainReply:
        """Why a task is with nobody."""
        data = await self._replica.call_leader(messages.EXPLAIN, _encode(request), timeout_s)
        reply = _explain_reply.decode(data)
        _check(reply.code)
        return reply

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        for _, answer in self._waiting:
            answer.cancel()


def _check(code: str) -> None:
    if code == NO_LEADER:
        raise CallFailedError("who was asked is not, or is not sure to be, the leader")
