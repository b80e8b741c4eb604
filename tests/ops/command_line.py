"""Runs `hive` in this process against a fake on a real loopback port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hive_client import Client
from hive_client.testing import FakeHive
from typer.testing import CliRunner

from ops.cli import app

SCENARIO_LIMIT_S = 60.0


@dataclass(frozen=True)
class Printed:
    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.stdout.splitlines()]


def hive(*words: str, stdin: str | None = None) -> Printed:
    result = CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=False)
    return Printed(result.exit_code, result.stdout, result.stderr)


class Stage:
    """A fake, a client of it, and the command line pointed at it."""

    def __init__(self, fake: FakeHive, client: Client) -> None:
        self.fake = fake
        self.client = client

    async def hive(self, *words: str, stdin: str | None = None) -> Printed:
        # The command has an event loop of its own, so it needs a thread of its own.
        return await asyncio.to_thread(hive, "--endpoints", self.fake.url, *words, stdin=stdin)

    async def document(self, *words: str) -> Any:
        printed = await self.hive(*words, "--json")
        assert printed.status == 0, printed.stderr
        return printed.document


def on_stage(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        # A scenario takes milliseconds; one that waits for what never comes must not stop the whole suite.
        async with asyncio.timeout(SCENARIO_LIMIT_S), FakeHive() as fake, Client(fake.url) as client:
            await scenario(Stage(fake, client))

    asyncio.run(run())
