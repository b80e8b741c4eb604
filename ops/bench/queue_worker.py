"""The agents of the dispatch measurement: real workers, in a process of their own, so that a handler is not held up by
whoever creates the tasks.

A task's payload says when its creation was sent, on the monotonic clock that all processes of a machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from pathlib import Path

from hive_client import Client, TaskContext, Worker

READY = "ready"


def main() -> None:
    """Work until SIGTERM; then write what was handled, as [[number, latency in microseconds], …]."""
    parser = argparse.ArgumentParser(prog="ops.bench.queue_worker", description="Agents that only take the time.")
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--report", type=Path, required=True)
    asyncio.run(_work(parser.parse_args()))


async def _work(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    handled: list[tuple[int, int]] = []

    async def handle(context: TaskContext) -> None:
        called_ns = time.monotonic_ns()
        handled.append((context.payload["n"], (called_ns - context.payload["sent_ns"]) // 1_000))

    async with Client(options.endpoints) as client:
        workers = [
            Worker(client, agent_id=f"{options.name}-{number}", max_concurrent=options.slots, handle_signals=False)
            for number in range(options.agents)
        ]
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                worker.default(handle)
                group.create_task(worker.run())
            for worker in workers:
                await worker.registered.wait()
            print(READY, flush=True)
            await stop.wait()
            for worker in workers:
                worker.drain()
    options.report.write_text(json.dumps(handled), encoding="utf-8")


if __name__ == "__main__":
    main()
