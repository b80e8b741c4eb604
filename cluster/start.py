"""From options to a running replica: identity, journal, state, core, network. The one place that knows all of them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import lmdb
import msgspec

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
from cluster.real.kernel_sync import KernelWriter, open_kernel_writer
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
    disk: DirectoryDisk
    journal: Journal
    state: LmdbState


def _open_data(options: ReplicaOptions, clock: SystemClock) -> _Opened:
    """Open the data directory, making it if it is new. Blocks. Raises StartError."""
    directory = DataDirectory(options.data_dir)
    undo = ExitStack()
    undo.callback(directory.unlock)
    with undo:
        try:
            opened = _open_parts(options, directory, clock, undo)
        except (OSError, lmdb.Error) as error:
            what = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise StartError(f"cannot use data directory {options.data_dir}: {what}; {way_out(error)}") from error
        except JournalError as error:
            raise StartError(str(error)) from error
        except (msgspec.DecodeError, ValueError) as error:
            raise StartError(
                f"cannot use data directory {options.data_dir}: what it holds is unreadable ({error}); bring it back "
                "from a copy, or rebuild this node from its peers under a new id"
            ) from error
        undo.pop_all()
    return opened


def _open_parts(options: ReplicaOptions, directory: DataDirectory, clock: SystemClock, undo: ExitStack) -> _Opened:
    """Identity, journal, state, in this order; `undo` learns how to let go of each."""
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
    disk = _log_disk(options, new=identity.generation is None)
    undo.callback(disk.close)
    journal = _open_journal(options, identity, clock, disk)
    state = _open_state(options, directory, identity, journal)
    undo.callback(state.env.close)
    # The missing part would be looked for at the wrong end of the log.
    if state.position.index + 1 < journal.first_index:
        raise StartError(
            f"the log of data directory {options.data_dir} begins at entry {journal.first_index}, and the snapshot "
            "before it is missing; bring snapshots/ back, or rebuild this node from its peers under a new id"
        )
    identity = replace(with_run(identity, directory), generation=state.generation)
    # BEFORE THE FIRST WRITE: what is written from here on is not what a clean mark vouches for.
    directory.save(identity)
    state.delete_strays()
    return _Opened(directory, identity, disk, journal, state)


def _log_disk(options: ReplicaOptions, *, new: bool) -> DirectoryDisk:
    path = options.data_dir / "log"
    # A first start that died half-way leaves a journal nobody has ever acknowledged anything from.
    if new and path.exists():
        for leftover in path.iterdir():
            leftover.unlink()
    path.mkdir(exist_ok=True)
    return DirectoryDisk(path)


def _open_journal(options: ReplicaOptions, identity: Identity, clock: SystemClock, disk: DirectoryDisk) -> Journal:
    return Journal.open(
        disk,
        journal_id=bytes.fromhex(identity.journal_id),
        options=JournalOptions(
            segment_bytes=options.limits.segment_bytes,
            cache_bytes=options.limits.log_cache_bytes,
            log_keep_bytes=options.limits.log_keep_bytes,
        ),
        clock=clock,
        create=identity.generation is None,
    )


def _open_state(options: ReplicaOptions, directory: DataDirectory, identity: Identity, journal: Journal) -> LmdbState:
    """The recorded generation if it can be trusted, else a new one from snapshot and log."""
    path: Path = directory.path
    map_bytes = options.limits.state_map_bytes
    if identity.generation is not None and (path / "state" / f"gen-{identity.generation}").exists():
        same_boot = state_is_valid(identity, directory, applied=(-1, -1))
        state = None
        if same_boot or identity.clean is not None:
            state = _open_generation(path, map_bytes, identity.generation)
        if state is not None:
            position = state.position
            trusted = same_boot or state_is_valid(identity, directory, applied=(position.index, position.term))
            manifest = state.manifest()
            snapshot_index = 0 if manifest is None else decode_manifest(manifest).position.index
            if trusted and may_stay(position, snapshot_index, journal.term_at):
                return state
            state.env.close()
            log.warning(
                "the state at entry %d cannot be trusted; it is built again from snapshot and log", position.index
            )
    return LmdbState(path, map_bytes, None)


def _open_generation(path: Path, map_bytes: int, generation: int) -> LmdbState | None:
    """A generation as it is; None if it is damaged, for it can be built again."""
    try:
        return LmdbState(path, map_bytes, generation)
    except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError, msgspec.DecodeError) as error:
        log.warning("the state is damaged (%s); it is built again from snapshot and log", error)
        return None


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
    except BaseException:
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
    writer = open_kernel_writer(loop, opened.disk)
    host = Host(network, clock, AsyncioLoop(loop), *threads, journal_writer=writer)
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
        loop.call_later(_RETIRE_AFTER_S, lambda: host.snapshot_executor.submit([state.retire], records.done))

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
    replica.bind(core, [partial(_end, loop, threads, writer), partial(_finish, opened, records, core)])
    core.start()
    _sync_state_now_and_then(loop, options.timings.state_sync_ms / 1000, state, host, core, records)
    return replica


def _end(
    loop: asyncio.AbstractEventLoop, threads: Iterable[ThreadExecutor], writer: KernelWriter | None
) -> None:
    for thread in threads:
        thread.close()
    if writer is not None:
        loop.call_soon_threadsafe(writer.close)


def _finish(opened: _Opened, records: _IdentityFile, core: Core) -> None:
    """Everything to disk, then the mark that says so, then let go. Blocks."""
    try:
        # A fault vouches for nothing.
        if not core.failed:
            _mark_clean(opened, records)
    finally:
        opened.state.let_go()
        opened.disk.close()
        opened.directory.unlock()


def _mark_clean(opened: _Opened, records: _IdentityFile) -> None:
    opened.journal.sync_blocking()
    position, generation = opened.state.position, opened.state.generation
    records.sync_or_condemn(opened.state)
    opened.state.close()
    # The generation too: an image may have been installed a moment ago, and its log is durable since the first line.
    clean = CleanMark(position.index, position.term)
    records.store(replace(records.identity, generation=generation, clean=clean))
    opened.journal.close()


def _sync_state_now_and_then(
    loop: asyncio.AbstractEventLoop,
    period_s: float,
    state: LmdbState,
    host: Host,
    core: Core,
    records: _IdentityFile,
) -> None:
    """Write the state back from time to time, so that the kernel never has much to write at once."""

    def again() -> None:
        if not core.stopped:
            host.snapshot_executor.submit([partial(records.sync_or_condemn, state)], records.done)
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
        self._condemned = False

    def remember_journals(self, journal_ids: dict[str, bytes]) -> None:
        """A member was met for the first time."""
        self.identity = replace(
            self.identity, journal_ids={peer: journal.hex() for peer, journal in sorted(journal_ids.items())}
        )
        self._save()

    def remember_generation(self, generation: int, log_is_durable: Callable[[], bool]) -> None:
        """The state was replaced by an image. NODE.JSON ONLY AFTER THE LOG'S RESET IS DURABLE: until then a restart
        must find the old pair."""
        loop = asyncio.get_running_loop()

        def when_durable() -> None:
            if log_is_durable():
                self.identity = replace(self.identity, generation=generation)
                self._save()
            else:
                loop.call_later(0.01, when_durable)

        when_durable()

    def sync_or_condemn(self, state: LmdbState) -> None:
        """Write the state to disk (executor step). An error of it condemns the generation: the kernel may have dropped
        pages that it could not write, so that this boot is no reason to trust them any more. The log is the truth."""
        try:
            state.sync()
        except lmdb.Error:
            self._condemned = True
            self.store(self.identity)
            raise

    def store(self, identity: Identity) -> None:
        """Make it node.json (executor step). What was condemned stays so, whatever was still to be remembered."""
        if self._condemned:
            identity = replace(identity, boot_id="condemned", clean=None)
        self._directory.save(identity)

    def _save(self) -> None:
        self._executor.submit([partial(self.store, self.identity)], self.done)

    def done(self, error: BaseException | None) -> None:
        if error is not None:
            self._on_fatal(error)
