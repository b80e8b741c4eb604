"""A node that must not start: one line that says what to do, an exit status, and not a byte of the data changed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.main import main
from ops.addresses import HOST
from tests.process.disks import memory_disk, remount
from tests.process.lone_node import Options, bytes_of, refusal_of, running, three_members
from tests.process.ports import node_ports
from tests.process.running import async_test

pytestmark = pytest.mark.process

FAILED, USAGE = 1, 2


async def use(options: Options, log_path: Path) -> None:
    """Run the node once, so that there is data."""
    async with running(options, log_path) as node:
        await node.alive()
        assert await node.stop() == 0


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Options]:
    """Options of a node that has run before. All tests here share its data: none may change it."""
    folder = tmp_path_factory.mktemp("used")
    options = three_members(folder / "n1", folder / "secret")
    asyncio.run(use(options, folder / "n1.log"))
    yield options
    shutil.rmtree(options.data_dir)


def expect_refusal(options: Options, status: int, *said: str) -> None:
    """The node refuses with all of these words, and leaves every byte of its data as it was."""
    before = bytes_of(options.data_dir)
    refusal = asyncio.run(refusal_of(options.words))
    assert refusal.error.startswith("hive node: ")
    assert [word for word in said if word not in refusal.error] == [], refusal.error
    assert refusal.status == status
    assert bytes_of(options.data_dir) == before


def test_data_of_another_cluster(used: Options) -> None:
    others = dict(zip(("n1", "n2", "n3"), [used.peer_port, *node_ports(2)], strict=True))
    expect_refusal(used.but(members=others), FAILED, "belongs to cluster", "give the members it was made with")


def test_data_of_another_node(used: Options) -> None:
    other = used.but(node_id="n2", peer_port=used.members["n2"])
    expect_refusal(other, FAILED, "belongs to node n1, not n2", "give --node-id n1 or another --data-dir")


def test_second_process_on_one_directory(used: Options, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(used, tmp_path / "log") as node:
            await node.alive()
            http_port, peer_port = node_ports(2)
            refusal = await refusal_of(used.but(http_port=http_port, peer_port=peer_port).words)
            assert "is in use by another process; stop that node first" in refusal.error
            assert refusal.status == FAILED
            assert await node.answers("/livez") == 200
            assert await node.stop() == 0

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_http_port_that_is_taken(used: Options) -> None:
    with socket.create_server((HOST, used.http_port)):
        expect_refusal(used, FAILED, f"cannot serve on {HOST}:{used.http_port}", "give another --http")


def test_peer_port_that_is_taken(used: Options) -> None:
    with socket.create_server((HOST, used.peer_port)):
        expect_refusal(used, FAILED, f"peer address {HOST}:{used.peer_port}", "give another --peer")


def test_taken_port_makes_no_directory(used: Options, tmp_path: Path) -> None:
    for port in (used.http_port, used.peer_port):
        with socket.create_server((HOST, port)):
            asyncio.run(refusal_of(used.but(data_dir=tmp_path / "new").words))
    assert not (tmp_path / "new").exists()


def copy_of(options: Options, to: Path) -> Options:
    """The same node over a copy of its small files, which are all that is looked at before the log."""
    to.mkdir()
    for name in ("LOCK", "node.json"):
        shutil.copy(options.data_dir / name, to)
    (to / "log").mkdir()
    return options.but(data_dir=to)


def test_data_of_a_future_version(used: Options, tmp_path: Path) -> None:
    options = copy_of(used, tmp_path / "n1")
    # A later version may keep other fields; that it is later must still be what is said.
    (options.data_dir / "node.json").write_text(json.dumps({"format": 99, "name": "n1"}))
    expect_refusal(options, FAILED, "has format 99", "start the version that wrote it")


def test_identity_that_was_lost(used: Options, tmp_path: Path) -> None:
    options = copy_of(used, tmp_path / "n1")
    (options.data_dir / "node.json").unlink()
    expect_refusal(options, FAILED, "no node.json", "bring node.json back")


@pytest.mark.parametrize("content", [b"", b'{"format": 2}', b"\xff"])
def test_identity_that_cannot_be_read(used: Options, tmp_path: Path, content: bytes) -> None:
    options = copy_of(used, tmp_path / "n1")
    (options.data_dir / "node.json").write_bytes(content)
    expect_refusal(options, FAILED, "node.json", "bring node.json back")


def test_log_that_was_lost(used: Options, tmp_path: Path) -> None:
    options = copy_of(used, tmp_path / "n1")
    expect_refusal(options, FAILED, "the log directory holds no segment")


def test_directory_of_something_else(used: Options, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    expect_refusal(used.but(data_dir=tmp_path / "photos"), FAILED, "holds cat.png but no node.json", "not Hive's")
    assert (tmp_path / "photos" / "cat.png").exists()


def test_file_in_place_of_a_directory(used: Options, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    refusal = asyncio.run(refusal_of(used.but(data_dir=tmp_path / "file").words))
    assert f"cannot use data directory {tmp_path / 'file'}" in refusal.error
    assert refusal.status == FAILED
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_directory_that_may_not_be_read(used: Options, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    refusal = asyncio.run(refusal_of(used.but(data_dir=tmp_path / "closed").words))
    assert "cannot use data directory" in refusal.error
    assert "check its owner" in refusal.error


def test_disk_that_is_read_only(used: Options, tmp_path: Path) -> None:
    with memory_disk(tmp_path / "disk", 4) as disk:
        options = copy_of(used, disk / "n1")
        remount(disk, "ro")
        expect_refusal(options, FAILED, "Read-only file system", "writable")
        expect_refusal(used.but(data_dir=disk / "new"), FAILED, "Read-only file system", "writable")


def test_missing_secret(used: Options) -> None:
    expect_refusal(used.but(secret_file=None), USAGE, "cluster_secret_file is needed", "--cluster-secret-file")


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("short", "must hold 16 to 4096 bytes")])
def test_secret_that_is_none(used: Options, tmp_path: Path, content: str | None, said: str) -> None:
    secret_file = tmp_path / "secret"
    if content is not None:
        secret_file.write_text(content)
    expect_refusal(used.but(secret_file=secret_file), USAGE, f"cluster_secret_file {secret_file} {said}")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--no-such-option", "1"), "'--no-such-option' is no option of hive node; --help lists all"),
        (("stray",), "'stray' is no option"),
        (("--log-level",), "--log-level needs a value"),
        (("--log-level", "loud"), "--log-level must be one of debug, info, warning, error"),
        (("--node-id", "n1"), "--node-id is given twice"),
        (("--heartbeat-ms", "-5"), "--heartbeat-ms must be a whole number"),
        (("--heartbeat-ms", "200"), "election_timeout_min_ms must be at least three times heartbeat_ms"),
        (("--fallback-ms", "1"), "fallback_ms must be at least election_timeout_max_ms"),
        (("--advertise-http", "nowhere"), "--advertise-http must be host:port"),
        (("--config", "no-such-file.toml"), "config file no-such-file.toml cannot be read"),
        (("--state-map-bytes", "1"), "--state-map-bytes must be a whole number"),
    ],
)
def test_options_that_are_wrong(
    used: Options, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...], said: str
) -> None:
    """In this process, for they are many: `main` is what the process runs."""
    before = set(used.data_dir.rglob("*"))
    assert main([*used.words, *extra]) == USAGE
    error = capsys.readouterr().err
    assert error.startswith("hive node: ")
    assert said in error
    assert error.count("\n") == 1
    assert set(used.data_dir.rglob("*")) == before


def test_option_that_is_unknown_ends_the_process(used: Options) -> None:
    expect_refusal(used.but(extra=("--no-such-option", "1")), USAGE, "'--no-such-option' is no option of hive node")


def test_environment_that_is_wrong(used: Options) -> None:
    before = bytes_of(used.data_dir)
    refusal = asyncio.run(refusal_of(used.words, {**os.environ, "HIVE_LOG_LEVEL": "loud"}))
    assert "HIVE_LOG_LEVEL must be one of" in refusal.error
    assert refusal.status == USAGE
    assert bytes_of(used.data_dir) == before


@pytest.mark.parametrize("members", [{"n2": 20002, "n3": 20003}, {"n1": 20001, "n2": 20001, "n3": 20003}])
def test_members_that_make_no_cluster(used: Options, members: dict[str, int]) -> None:
    expect_refusal(used.but(members=members), USAGE, "members")


@async_test(limit_s=60)
async def test_the_data_is_good_after_all_that(tmp_path: Path) -> None:
    """A refusal costs nothing: the same directory starts as soon as the reason is gone."""
    options = three_members(tmp_path / "n1", tmp_path / "secret")
    await use(options, tmp_path / "log")
    with socket.create_server((HOST, options.http_port)):
        assert (await refusal_of(options.words)).status == FAILED
    await use(options, tmp_path / "log")
    shutil.rmtree(options.data_dir)
