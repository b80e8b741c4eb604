"""Three etcd nodes on this machine, to compare with."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

from ops.addresses import HOST, free_ports
from ops.bench.load import KEYS, Shot, fill
from ops.edge import CommandError
from ops.local_cluster import POLL_S
from ops.process import ChildProcess, describe_exit
from ops.rawhttp import RawConnection, encode_request

NODES = 3
START_TIMEOUT_S = 30.0

# Both are base64 as they stand, so that a counter can be written into them without encoding it.
UNIQUE_KEY = "{n}"
READ_KEY = "keyb{k}"


class EtcdCluster:
    """Default settings: fsync on, as in production."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        ports = free_ports(2 * NODES)
        self._clients = [f"http://{HOST}:{port}" for port in ports[:NODES]]
        self._peers = [f"http://{HOST}:{port}" for port in ports[NODES:]]
        self._nodes: list[ChildProcess] = []

    async def start(self) -> None:
        """Returns when there is a leader."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        for number in range(NODES):
            name = f"e{number + 1}"
            node = ChildProcess(name, self._command(number), self._data_dir / f"{name}.log")
            self._nodes.append(node)
            await node.start()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self._ready():
                    for node in self._nodes:
                        if not node.running:
                            raise CommandError(f"etcd did not start ({describe_exit(node.status)}): {node.last_line()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise CommandError(f"etcd was not ready within {START_TIMEOUT_S:.0f} s") from None

    def _command(self, number: int) -> list[str]:
        arguments = {
            "--name": f"e{number + 1}",
            "--data-dir": str(self._data_dir / f"e{number + 1}"),
            "--listen-client-urls": self._clients[number],
            "--advertise-client-urls": self._clients[number],
            "--listen-peer-urls": self._peers[number],
            "--initial-advertise-peer-urls": self._peers[number],
            "--initial-cluster": ",".join(f"e{i + 1}={peer}" for i, peer in enumerate(self._peers)),
            "--initial-cluster-state": "new",
            "--log-level": "error",
        }
        return ["etcd", *(word for pair in arguments.items() for word in pair)]

    async def _ready(self) -> bool:
        try:
            leaders = {(await self._status(endpoint)).get("leader") for endpoint in self._clients}
        except (OSError, ValueError):
            return False
        return len(leaders) == 1 and leaders != {None}

    async def _status(self, endpoint: str) -> dict[str, object]:
        document = await post(endpoint, "/v3/maintenance/status", "{}")
        header = document.get("header")
        member_id = header.get("member_id") if isinstance(header, dict) else None
        return {"leader": document.get("leader"), "leads": document.get("leader") == member_id}

    async def leader_and_follower(self) -> tuple[str, str]:
        leads = {endpoint: bool((await self._status(endpoint))["leads"]) for endpoint in self._clients}
        leader = next((endpoint for endpoint, is_leader in leads.items() if is_leader), None)
        if leader is None:
            raise CommandError("etcd has no leader; its logs are in " + str(self._data_dir))
        return leader, next(endpoint for endpoint in self._clients if endpoint != leader)

    async def fill_keys(self, value_bytes: int) -> None:
        """The keys that are read."""
        leader, _ = await self.leader_and_follower()
        shot = put_shot(value_bytes, READ_KEY)
        connection = await RawConnection.connect(leader)
        for number in range(KEYS):
            request = encode_request("POST", leader, shot.target, fill(shot.body, number).encode())
            reply = await connection.exchange(request)
            if reply.status != 200:
                raise CommandError(f"etcd refused a put: HTTP {reply.status}")
        connection.close()

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop(5.0) for node in self._nodes))


def put_shot(value_bytes: int, key: str = UNIQUE_KEY) -> Shot:
    """A put of a value of so many bytes (after decoding)."""
    value = base64.b64encode(b"x" * value_bytes).decode()
    return Shot("POST", "/v3/kv/put", f'{{"key":"{key}","value":"{value}"}}')


def serializable_read_shot() -> Shot:
    """A read from the asked node's own state."""
    return Shot("POST", "/v3/kv/range", f'{{"key":"{READ_KEY}","serializable":true}}')


async def post(endpoint: str, target: str, body: str) -> dict[str, object]:
    """One call on a connection of its own. Raises OSError or ValueError."""
    connection = await RawConnection.connect(endpoint)
    try:
        reply = await connection.exchange(encode_request("POST", endpoint, target, body.encode()))
    finally:
        connection.close()
    document = json.loads(reply.body)
    return document if isinstance(document, dict) else {}
