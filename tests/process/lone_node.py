"""One node process of its own: its command line, its exit status, what it says on standard error, its files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hive_client import Client, HiveError

from ops.addresses import HOST
from ops.node import node_command
from ops.process import ChildProcess, describe_exit
from tests.process.ports import node_ports
from tests.process.running import until

REFUSES_WITHIN_S = 30.0
STOP_GRACE_S = 10.0
SECRET = "a secret of these tests, long enough\n"


@dataclass(frozen=True)
class Options:
    """What a node is started with, as a record that tests vary with `but`."""

    node_id: str
    data_dir: Path
    http_port: int
    peer_port: int
    members: dict[str, int] = field(default_factory=dict)
    secret_file: Path | None = None
    extra: tuple[str, ...] = ()

    def but(self, **changes: object) -> Options:
        return replace(self, **changes)  # type: ignore[arg-type]  # names and types are checked by the tests' own use

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    @property
    def words(self) -> list[str]:
        words = ["--node-id", self.node_id, "--data-dir", str(self.data_dir)]
        words += ["--http", f"{HOST}:{self.http_port}", "--peer", f"{HOST}:{self.peer_port}"]
        if self.members:
            words += ["--members", ",".join(f"{name}={HOST}:{port}" for name, port in self.members.items())]
        if self.secret_file is not None:
            words += ["--cluster-secret-file", str(self.secret_file)]
        return [*words, *self.extra]


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a node that would not start ended."""

    status: int
    error: str


async def refusal_of(words: list[str], environment: dict[str, str] | None = None) -> Refusal:
    """Start a node that is to refuse. Fails if it does not end, or says more than one line."""
    process = await asyncio.create_subprocess_exec(
        *node_command(words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(REFUSES_WITHIN_S):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError("the node started, but should have refused") from None
    assert process.returncode is not None
    assert stdout == b""
    lines = stderr.decode().splitlines()
    assert len(lines) == 1, f"one line was expected: {lines}"
    return Refusal(process.returncode, lines[0])


def three_members(data_dir: Path, secret_file: Path) -> Options:
    """n1 of a cluster of three whose other members are not there."""
    http_port, *peer_ports = node_ports(4)
    secret_file.write_text(SECRET)
    members = dict(zip(("n1", "n2", "n3"), peer_ports, strict=True))
    return Options("n1", data_dir, http_port, peer_ports[0], members, secret_file)


def alone(data_dir: Path, *extra: str) -> Options:
    """A cluster of one."""
    http_port, peer_port = node_ports(2)
    return Options("n1", data_dir, http_port, peer_port, extra=extra)


@dataclass(frozen=True, slots=True)
class LoneNode:
    """A node that does start. `client` knows only this one."""

    options: Options
    process: ChildProcess
    client: Client

    async def answers(self, path: str) -> int | None:
        """The HTTP status of a health route, None if nobody is there. Fails if the node has ended."""
        if not self.process.running:
            end = describe_exit(await self.process.wait())
            raise AssertionError(f"the node has ended with {end}: {self.process.last_line()}")
        try:
            health = await self.client.cluster.livez() if path == "/livez" else await self.client.cluster.readyz()
        except HiveError:
            return None
        assert health.reply is not None
        return health.reply.status

    async def alive(self) -> None:
        """Wait until it answers at all."""

        async def look() -> bool | None:
            return True if await self.answers("/livez") == 200 else None

        await until(look)

    async def ready(self) -> None:
        """Wait until it serves."""

        async def look() -> bool | None:
            return True if await self.answers("/readyz") == 200 else None

        await until(look)

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        await self.process.stop(STOP_GRACE_S)
        return self.process.status


@asynccontextmanager
async def running(options: Options, log_path: Path) -> AsyncIterator[LoneNode]:
    """A node that is started now; killed at the end if it still runs."""
    process = ChildProcess(options.node_id, node_command(options.words), log_path)
    async with Client(options.endpoint) as client:
        await process.start()
        try:
            yield LoneNode(options, process, client)
        except BaseException as error:
            error.add_note(process.last_line())
            raise
        finally:
            await process.kill()


def bytes_of(tree: Path) -> dict[str, str]:
    """A digest for every file under a directory."""
    return {
        str(path.relative_to(tree)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }
