"""What is fired at a server, and a load generator of our own for machines without `wrk`.

As a program (`python -m ops.bench.load`) it is a process of its own, so that its work is not that of the measuring one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field

from ops.bench.figures import Figures
from ops.rawhttp import RawConnection, encode_request

COUNTER_DIGITS = 12
KEYS = 1_000
KEY_DIGITS = 4
# Counters of different runs and threads must not meet: run, thread, request share the digits.
RUN_STEP = 10**10
THREAD_STEP = 10**9


@dataclass(frozen=True, slots=True)
class Shot:
    """One kind of request. In `body` and `target`, `{n}` is a number that never comes again (12 digits), `{k}` one of
    1,000 keys (4 digits). `units` is how many things one request does."""

    method: str
    target: str
    body: str = ""
    units: int = 1

    @property
    def fixed(self) -> bool:
        return not any(mark in text for mark in ("{n}", "{k}") for text in (self.target, self.body))


def fill(text: str, counter: int) -> str:
    """`text` with its marks replaced by this counter."""
    number, key = f"{counter:0{COUNTER_DIGITS}d}", f"{counter % KEYS:0{KEY_DIGITS}d}"
    return text.replace("{n}", number).replace("{k}", key)


@dataclass(slots=True)
class _Tape:
    latencies_ms: list[float] = field(default_factory=list)
    errors: int = 0


async def fire(endpoint: str, shot: Shot, connections: int, seconds: float, first: int) -> Figures:
    """Closed loop: each connection sends its next request when the last one was answered."""
    tape = _Tape()
    started_at = time.perf_counter()
    deadline = started_at + seconds
    numbers = iter(range(first, first + THREAD_STEP))

    async def shoot() -> None:
        connection = await RawConnection.connect(endpoint)
        fixed = encode_request(shot.method, endpoint, shot.target, shot.body.encode()) if shot.fixed else b""
        try:
            while (sent_at := time.perf_counter()) < deadline:
                reply = await connection.exchange(fixed or _request(endpoint, shot, next(numbers)))
                tape.latencies_ms.append((time.perf_counter() - sent_at) * 1000)
                tape.errors += reply.status >= 300
        finally:
            connection.close()

    await asyncio.gather(*(shoot() for _ in range(connections)))
    elapsed_s = time.perf_counter() - started_at
    return Figures.from_latencies(tape.latencies_ms, tape.errors, elapsed_s, shot.units)


def _request(endpoint: str, shot: Shot, counter: int) -> bytes:
    return encode_request(shot.method, endpoint, fill(shot.target, counter), fill(shot.body, counter).encode())


def main() -> None:
    """Fire as the arguments say; print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="ops.bench.load", description="Fire one kind of request at one endpoint.")
    for name in ("--endpoint", "--shot"):
        parser.add_argument(name, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    shot = Shot(**json.loads(options.shot))
    figures = asyncio.run(fire(options.endpoint, shot, options.connections, options.seconds, options.first))
    print(json.dumps(figures.to_json()))


if __name__ == "__main__":
    main()
