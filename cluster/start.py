"""From options to a running replica: identity, journal, state, core, network. The one place that knows all of them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import lmdb

from cluster.applier import ApplyEntry
from cluster.core import Core, CoreOptions
from cluster.fatal import stop_at_once, way_out
from cluster.host import Host
from cluster.identity import (
    CleanMark,
    DataDirectory,
    Identity,
    StartError,
    boot_id,
    check_identity,
    file_system_id,
    state_is_valid,
    with_run,
)
from cluster.journal import Journal, JournalError, JournalOptions
from cluster.lmdb_state import LmdbState
from cluster.node_replica import NodeReplica
from cluster.peers import Peers
from cluster.ports import Executor
from cluster.real.clock import SystemClock
from cluster.real.disk import DirectoryDisk
from cluster.real.executor import ThreadExecutor
from cluster.real.loop import AsyncioLoop
from cluster.real.network import TcpNetwork
from cluster.settings import ReplicaOptions
from cluster.snapshots import decode_manifest
from cluster.state import may_stay

log = logging.getLogger("hive.cluster")

_RETIRE_AFTER_S = 2.0

__all__ = ["StartError", "open_replica"]


def cluster_id_of(options: ReplicaOptions) -> str:
    """The id of a new cluster. Its founders must come to the same one without having met: it is made of who they are. A
    cluster of one takes a random one."""
    if len(options.members) == 1:
        return secrets.token_hex(8)
    founders = ",".join(f"{node}={address}" for node, address in sorted(options.members.items()))
    return hashlib.blake2b(founders.encode(), digest_size=8, person=b"hive-cluster").hexdigest()


@dataclass(slots=True)
class _Opened:
    """What is on disk, open."""

    directory: DataDirectory
    identity: Identity
    journal: Journal
    state: LmdbState


def _open_data(options: ReplicaOptions, clock: SystemClock) -> _Opened:
    """Open the data directory, making it if it is new. Blocks. Raises StartError."""
    directory = DataDirectory(options.data_dir)
    try:
        identity = directory.load()
        if identity is None:
            identity = Identity(
                node_id=options.node_id,
                cluster_id=cluster_id_of(options),
                journal_id=secrets.token_hex(16),
                boot_id=boot_id(),
                file_system_id=file_system_id(directory.path),
            )
            # BEFORE THE JOURNAL: a first start that dies half-way must know its own beginnings when it comes back.
            directory.save(identity)
        expected = cluster_id_of(options) if len(options.members) > 1 else None
        check_identity(identity, node_id=options.node_id, cluster_id=expected)
        journal = _open_journal(options, identity, clock, new=identity.generation is None)
        state = _open_state(options, directory, identity, journal)
        identity = replace(with_run(identity, directory), generation=state.generation)
        directory.save(identity)
        state.retire()
    except OSError as error:
        directory.unlock()
        raise StartError(f"cannot use data directory {options.data_dir}: {error.strerror}; {way_out(error)}") from error
    except lmdb.Error as error:
        directory.unlock()
        raise StartError(f"cannot use data directory {options.data_dir}: {error}; {way_out(error)}") from error
    except JournalError as error:
        directory.unlock()
        raise StartError(str(error)) from error
    except StartError:
        directory.unlock()
        raise
    return _Opened(directory, identity, journal, state)


def _open_journal(options: ReplicaOptions, identity: Identity, clock: SystemClock, *, new: bool) -> Journal:
    path = options.data_dir / "log"
    # A first start that died half-way leaves a journal nobody has ever acknowledged anything from.
    if new and path.exists():
        for leftover in path.iterdir():
            leftover.unlink()
    path.mkdir(exist_ok=True)
    return Journal.open(
        DirectoryDisk(path),
        journal_id=bytes.fromhex(identity.journal_id),
        options=JournalOptions(
            segment_bytes=options.limits.segment_bytes,
            cache_bytes=options.limits.log_cache_bytes,
            log_keep_bytes=options.limits.log_keep_bytes,
        ),
        clock=clock,
        create=new,
    )


def _open_state(options: ReplicaOptions, directory: DataDirectory, identity: Identity, journal: Journal) -> LmdbState:
    """The recorded generation if it can be trusted, else a new one from snapshot and log."""
    path: Path = directory.path
    map_bytes = options.limits.state_map_bytes
    if identity.generation is not None and (path / "state" / f"gen-{identity.generation}").exists():
        same_boot = state_is_valid(identity, directory, applied=(-1, -1))
        if same_boot or identity.clean is not None:
            state = LmdbState(path, map_bytes, identity.generation)
            position = state.position
            trusted = same_boot or state_is_valid(identity, directory, applied=(position.index, position.term))
            manifest = state.manifest()
            snapshot_index = 0 if manifest is None else decode_manifest(manifest).position.index
            if trusted and may_stay(position, snapshot_index, journal.term_at):
                return state
            state.env.close()
            log.warning("the state at entry %d cannot be trusted; it is built again from snapshot and log",
            position.index)
    return LmdbState(path, map_bytes, None)


async def open_replica(
    options: ReplicaOptions, machine: ApplyEntry, on_fatal: Callable[[BaseException], None] = stop_at_once
) -> NodeReplica:
    """Open the data directory and take part in the cluster. Raises StartError, SettingsError."""
    loop = asyncio.get_running_loop()
    clock = SystemClock()
    network = TcpNetwork(options.node_id, options.members, options.cluster_secret, options.timings, options.limits)
    try:
        if len(options.members) > 1:
            await network.listen(options.peer_address)
    except OSError as error:
        raise StartError(
            f"cannot listen on peer address {options.peer_address}: {error.strerror}; stop what uses it, "
            "or give another --peer"
        ) from error
    try:
        opened = await loop.run_in_executor(None, _open_data, options, clock)
    except StartError:
        network.close()
        raise
    return _assemble(options, machine, on_fatal, opened, clock, network)


def _assemble(
    options: ReplicaOptions,
    machine: ApplyEntry,
    on_fatal: Callable[[BaseException], None],
    opened: _Opened,
    clock: SystemClock,
    network: TcpNetwork,
) -> NodeReplica:
    loop = asyncio.get_running_loop()
    identity, journal, state = opened.identity, opened.journal, opened.state
    threads = (ThreadExecutor(loop, "hive-log"), ThreadExecutor(loop, "hive-snapshot"))
    host = Host(network, clock, AsyncioLoop(loop), *threads)
    records = _IdentityFile(opened.directory, identity, host.snapshot_executor, on_fatal)
    run = secrets.randbits(63)
    peers = Peers(
        node_id=options.node_id,
        cluster_id=identity.cluster_id,
        journal_id=bytes.fromhex(identity.journal_id),
        members=options.members,
        http_address=options.http_address,
        version=options.version,
        fresh=journal.last_index <= 1,
        journal_ids={peer: bytes.fromhex(value) for peer, value in identity.journal_ids.items()},
        remember=records.remember_journals,
    )

    def installed() -> None:
        records.remember_generation(state.generation, lambda: journal.durable_index >= state.position.index)
        loop.call_later(_RETIRE_AFTER_S, state.retire)

    replica = NodeReplica(
        run_id=f"{run:016x}", version=options.version, peers=peers, on_installed=installed, on_fatal=on_fatal
    )
    core_options = CoreOptions(
        options.node_id,
        tuple(sorted(options.members)),
        identity.cluster_id,
        run,
        options.timings,
        options.limits,
        secrets.randbits(63),
    )
    core = Core(core_options, journal=journal, state=state, machine=machine, peers=peers, host=host, owner=replica)
    # Two steps: what the threads have finished is heard on the loop before anything else is written.
    replica.bind(core, [partial(_end, threads), partial(_finish, opened, records)])
    core.start()
    _sync_state_now_and_then(loop, options.timings.state_sync_ms / 1000, state, host, core, on_fatal)
    return replica


def _end(threads: Iterable[ThreadExecutor]) -> None:
    for thread in threads:
        thread.close()


def _finish(opened: _Opened, records: _IdentityFile) -> None:
    """Everything to disk, then the mark that says so, then let go. Blocks."""
    opened.journal.sync_blocking()
    position = opened.state.position
    opened.state.close()
    opened.directory.save(replace(records.identity, clean=CleanMark(position.index, position.term)))
    opened.journal.close()
    opened.directory.unlock()


def _sync_state_now_and_then(
    loop: asyncio.AbstractEventLoop,
    period_s: float,
    state: LmdbState,
    host: Host,
    core: Core,
    on_fatal: Callable[[BaseException], None],
) -> None:
    """Write the state back from time to time, so that the kernel never has much to write at once. An error of it
    condemns
    the generation: the log stays the truth."""

    def done(error: BaseException | None) -> None:
        if error is not None:
            on_fatal(error)

    def again() -> None:
        if not core.stopped:
            host.snapshot_executor.submit([state.sync], done)
            loop.call_later(period_s, again)

    loop.call_later(period_s, again)


class _IdentityFile:
    """node.json of a running node: changed rarely, never on the core's thread."""

    def __init__(
        self,
        directory: DataDirectory,
        identity: Identity,
        executor: Executor,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.identity = identity
        self._directory = directory
        self._executor = executor
        self._on_fatal = on_fatal

    def remember_journals(self, journal_ids: dict[str, bytes]) -> None:
        """A member was met for the first time."""
        self.identity = replace(
            self.identity, journal_ids={peer: journal.hex() for peer, journal in sorted(journal_ids.items())}
        )
        self._save()

    def remember_generation(self, generation: int, log_is_durable: Callable[[], bool]) -> None:
        """The state was replaced by an image. NODE.JSON ONLY AFTER THE LOG'S RESET IS DURABLE: until then a restart
        must
        find the old pair."""
        loop = asyncio.get_running_loop()

        def when_durable() -> None:
            if log_is_durable():
                self.identity = replace(self.identity, generation=generation)
                self._save()
            else:
                loop.call_later(0.01, when_durable)

        when_durable()

    def _save(self) -> None:
        identity = self.identity
        self._executor.submit([lambda: self._directory.save(identity)], self._done)

    def _done(self, error: BaseException | None) -> None:
        if error is not None:
            self._on_fatal(error)
