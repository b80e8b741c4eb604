"""From one call to as many requests as are safe: endpoints, failover, retries, deadlines.

THE PROMISE: whatever is raised tells the truth over all tries together. Once a try may have reached a node, a later
"did not happen" says nothing about that first one, so the call ends as ``OutcomeUnknown`` until some node decides.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hive_client.clock import Clock
from hive_client.endpoints import EndpointPool
from hive_client.errors import HiveError, NotHappened, OutcomeUnknown, Unavailable, UnexpectedReply, Unreachable
from hive_client.problem import error_from_reply
from hive_client.retry import Backoff, may_repeat, moves_on
from hive_client.wire import Cut, NotSent, Reply, Request, Stream, Wire

# A problem document is one line, or some if a proxy has set it neatly.
REFUSAL_LINES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Deadlines:
    """``timeout_s`` bounds the whole call with all its tries, ``attempt_timeout_s`` one silent node."""

    timeout_s: float
    attempt_timeout_s: float


class Transport:
    """Sends requests to the cluster; one per client, shared by its nouns."""

    def __init__(self, wire: Wire, pool: EndpointPool, clock: Clock, backoff: Backoff | None = None) -> None:
        self._wire = wire
        self.pool = pool
        self.clock = clock
        self._backoff = backoff or Backoff()

    async def call(self, request: Request, deadlines: Deadlines) -> Reply:
        """The first decided reply. Raises the error of the API, ``Unreachable`` or ``OutcomeUnknown``."""
        return await _Call(self, request, deadlines).run()

    async def call_endpoint(self, endpoint: str, request: Request, timeout_s: float) -> Reply:
        """One request to one node, whatever it answers (an error status is an answer here). No retries."""
        try:
            return await self._wire.send(endpoint, request, timeout_s)
        except NotSent as error:
            raise Unreachable(f"{endpoint}: {error}") from error
        except Cut as error:
            raise OutcomeUnknown(f"{endpoint}: {error}", idempotency_key=request.key) from error

    async def open_stream(self, request: Request, silence_s: float) -> Stream:
        """A stream on the endpoint in use, tried once. Raises as ``call`` does."""
        endpoint = self.pool.current
        try:
            stream = await self._wire.open_stream(endpoint, request, silence_s)
            if stream.status == 200:
                return stream
            raise await _refusal(stream)
        except NotSent as error:
            self.pool.failed(endpoint)
            raise Unreachable(f"{endpoint}: {error}") from error
        except Cut as error:
            self.pool.failed(endpoint)
            raise OutcomeUnknown(f"{endpoint}: {error}") from error
        except Unavailable:
            self.pool.failed(endpoint)
            raise

    def round_delay_s(self, round_number: int) -> float:
        """The pause after ``round_number`` rounds over all endpoints failed."""
        return self._backoff.delay_ms(round_number) / 1000

    async def send(self, endpoint: str, request: Request, timeout_s: float) -> Reply:
        return await self._wire.send(endpoint, request, timeout_s)

    async def close(self) -> None:
        await self._wire.close()


async def _refusal(stream: Stream) -> HiveError:
    lines: list[bytes] = []
    while (line := await stream.line()) is not None and len(lines) < REFUSAL_LINES_MAX:
        lines.append(line)
    stream.close()
    document = Reply(stream.status, stream.headers, b"\n".join(lines), stream.endpoint).document()
    return error_from_reply(stream.status, stream.headers, document)


class _Call:
    """The state of one call over its tries."""

    def __init__(self, transport: Transport, request: Request, deadlines: Deadlines) -> None:
        self._transport = transport
        self._request = request
        self._attempt_timeout_s = deadlines.attempt_timeout_s
        self._deadline = transport.clock.monotonic() + deadlines.timeout_s
        self._tried: set[str] = set()
        self._round = 0
        self._internal_errors = 0
        self._asked_s = 0.0
        self._maybe_happened: HiveError | None = None
        self._last: HiveError = Unreachable("the time of the call was over before a node could be asked")

    async def run(self) -> Reply:
        while True:
            endpoint = self._transport.pool.pick(self._tried) or self._transport.pool.current
            reply, error = await self._try(endpoint)
            if reply is not None:
                self._transport.pool.answered(endpoint)
                return reply
            self._last = error
            self._internal_errors += error.code == "internal"
            if error.retry == "same_key":
                self._maybe_happened = self._maybe_happened or error
            if not may_repeat(error, internal_errors=self._internal_errors):
                raise self._verdict(error)
            if moves_on(error):
                self._tried.add(endpoint)
                self._transport.pool.failed(endpoint)
            await self._pause(error)

    async def _try(self, endpoint: str) -> tuple[Reply | None, HiveError]:
        remaining = self._deadline - self._transport.clock.monotonic()
        if remaining <= 0:
            return None, self._last
        try:
            reply = await self._transport.send(endpoint, self._request, min(remaining, self._attempt_timeout_s))
        except NotSent as error:
            return None, Unreachable(f"{endpoint}: {error}", idempotency_key=self._request.key)
        except Cut as error:
            return None, self._no_answer(f"{endpoint}: {error}")
        if reply.status < 300:
            return self._understood(reply)
        return None, error_from_reply(reply.status, reply.headers, reply.document(), key=self._request.key)

    def _understood(self, reply: Reply) -> tuple[Reply | None, HiveError]:
        # A captive portal answers 200 as well; taking its page for a committed write would be a lie.
        if reply.status == 204 or isinstance(reply.document(), dict):
            return reply, self._last
        detail = f"{reply.endpoint} answered {reply.status} with no JSON object; is it a Hive node?"
        return None, UnexpectedReply(detail, status=reply.status, idempotency_key=self._request.key)

    def _no_answer(self, detail: str) -> HiveError:
        # A read changes nothing, so nothing about it can be unknown.
        if self._request.method == "GET":
            return Unreachable(detail)
        return OutcomeUnknown(detail, code="no_answer", idempotency_key=self._request.key)

    async def _pause(self, error: HiveError) -> None:
        """Go straight to an untried node, else wait: as long as was asked, or a jittered while. Raises
        when time is over.
        """
        delay_s = 0.0
        if error.retry_after_ms is not None:
            # Above what was asked, never below; the spread keeps a fleet from coming back at one instant.
            self._asked_s = max(self._asked_s, error.retry_after_ms / 1000 * (1 + random.random() / 4))
        if not moves_on(error) or self._transport.pool.pick(self._tried) is None:
            delay_s = self._asked_s or self._transport.round_delay_s(self._round)
            self._tried.clear()
            self._asked_s = 0.0
            self._round += 1
        if self._transport.clock.monotonic() + delay_s >= self._deadline:
            raise self._verdict(error)
        if delay_s > 0:
            await self._transport.clock.sleep(delay_s)

    def _verdict(self, error: HiveError) -> HiveError:
        undecided = isinstance(error, Unavailable) or not isinstance(error, NotHappened)
        if self._maybe_happened is None or not undecided or isinstance(error, OutcomeUnknown):
            return error
        unknown = OutcomeUnknown(
            f"an earlier try may have happened ({self._maybe_happened.detail}); the last one answered {error}",
            idempotency_key=self._request.key,
        )
        unknown.__cause__ = error
        return unknown
