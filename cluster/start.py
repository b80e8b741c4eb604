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
from cluster.core import Core
from cluster.fatal import state_is_damaged, stop_at_once, way_out
from cluster.host import CoreOptions, Host
from cluster.identity import (
    CleanMark,
    DataDirectory,
    Identity,
    StartError,
    boot_id,
    check_cluster,
    check_identity,
    file_system_id,
    state_is_valid,
    with_run,
)
from cluster.identity_file import IdentityFile
from cluster.journal import Journal, JournalError, JournalOptions
from cluster.lmdb_state import LmdbState, peek_founded
from cluster.members import Configuration, as_started, read_configuration
from cluster.node_replica import NodeReplica
from cluster.peers import REMOVED, Peers, removed_reason
from cluster.real.clock import SystemClock
from cluster.real.disk import DirectoryDisk
from cluster.real.executor import ThreadExecutor
from cluster.real.kernel_sync import KernelWriter, open_kernel_writer
from cluster.real.loop import AsyncioLoop
from cluster.real.network import TcpNetwork
from cluster.real.space import SpaceWatch
from cluster.resync import delete_everything
from cluster.settings import ReplicaOptions
from cluster.snapshots import decode_manifest
from cluster.state import may_stay

log = logging.getLogger("hive.cluster")

_RETIRE_AFTER_S = 2.0

__all__ = ["Opened", "StartError", "open_data", "open_replica"]


def cluster_id_of(options: ReplicaOptions) -> str:
    """The id of a new cluster. Its founders must come to the same one without having met: it is made of who they are. A
    cluster of one takes a random one."""
    if len(options.members) == 1:
        return secrets.token_hex(8)
    founders = ",".join(f"{node}={address}" for node, address in sorted(options.members.items()))
    return hashlib.blake2b(founders.encode(), digest_size=8, person=b"hive-cluster").hexdigest()


@dataclass(slots=True)
class Opened:
    """What is on disk, open."""

    directory: DataDirectory
    identity: Identity
    disk: DirectoryDisk
    journal: Journal
    state: LmdbState
    members: Configuration


def open_data(options: ReplicaOptions, clock: SystemClock) -> Opened:
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
                "from a copy, or run hive resync to rebuild this node from the others"
            ) from error
        undo.pop_all()
    return opened


def _open_parts(options: ReplicaOptions, directory: DataDirectory, clock: SystemClock, undo: ExitStack) -> Opened:
    """Identity, journal, state, in this order; `undo` learns how to let go of each."""
    identity = directory.load()
    if identity is None:
        joins = options.join_cluster_id is not None
        identity = Identity(
            node_id=options.node_id,
            cluster_id=options.join_cluster_id or cluster_id_of(options),
            joined=dict(options.members) if joins else None,
            journal_id=secrets.token_hex(16),
            boot_id=boot_id(),
            file_system_id=file_system_id(directory.path),
        )
        # BEFORE THE JOURNAL: a first start that dies half-way must know its own beginnings when it comes back.
        directory.save(identity)
    check_identity(identity, node_id=options.node_id)
    _check_members(options, identity)
    if identity.removed:
        raise StartError(removed_reason(identity.node_id))
    if identity.rebuilding and identity.generation is None:
        delete_everything(directory.path)  # as `hive resync` does, which may have been cut short
    disk = _log_disk(options, new=identity.generation is None)
    undo.callback(disk.close)
    journal = _open_journal(options, identity, clock, disk)
    state = _open_state(options, directory, identity, journal)
    undo.callback(state.env.close)
    members = _members_of(options, identity, state)
    # The missing part would be looked for at the wrong end of the log.
    if state.position.index + 1 < journal.first_index:
        raise StartError(
            f"the log of data directory {options.data_dir} begins at entry {journal.first_index}, and the snapshot "
            "before it is missing; bring snapshots/ back, or run hive resync to rebuild this node from its peers"
        )
    identity = replace(with_run(identity, directory), generation=state.generation)
    # BEFORE THE FIRST WRITE: what is written from here on is not what a clean mark vouches for.
    directory.save(identity)
    state.delete_strays()
    return Opened(directory, identity, disk, journal, state, members)


def _members_of(options: ReplicaOptions, identity: Identity, state: LmdbState) -> Configuration:
    """Who the members are: as the state says, as this node was told when it joined, or as it is started."""
    started = as_started(identity.joined or options.members, identity.node_id if identity.joined else None)
    with state.view() as view:
        members = read_configuration(view, started)
    if not members.founded and identity.joined is None and len(options.members) > 1:
        check_cluster(identity, cluster_id_of(options))
    if identity.node_id in members.removed:
        raise StartError(removed_reason(identity.node_id))
    if len(members.members) > 1 and not options.cluster_secret:
        raise StartError(
            f"node {identity.node_id} is one of {len(members.members)} members, and they prove to each other who they "
            "are: give --cluster-secret-file, the same on all of them"
        )
    return members


def _check_members(options: ReplicaOptions, identity: Identity) -> None:
    """Raise StartError when the members given make another cluster, before anything is touched. Once the state knows
    its members, it no longer matters who is given."""
    if identity.joined is not None or len(options.members) == 1 or identity.cluster_id == cluster_id_of(options):
        return
    if identity.generation is None or not peek_founded(options.data_dir, identity.generation):
        check_cluster(identity, cluster_id_of(options))


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
        # Alone too: others may join, if they can prove that they are meant to.
        if options.cluster_secret:
            await network.listen(options.peer_address)
    except OSError as error:
        raise StartError(
            f"cannot listen on peer address {options.peer_address}: {error.strerror}; stop what uses it, "
            "or give another --peer"
        ) from error
    try:
        opened = await loop.run_in_executor(None, open_data, options, clock)
    except BaseException:
        network.close()
        raise
    return _assemble(options, machine, on_fatal, opened, clock, network)


def _assemble(
    options: ReplicaOptions,
    machine: ApplyEntry,
    on_fatal: Callable[[BaseException], None],
    opened: Opened,
    clock: SystemClock,
    network: TcpNetwork,
) -> NodeReplica:
    loop = asyncio.get_running_loop()
    identity, journal, state = opened.identity, opened.journal, opened.state
    threads = (ThreadExecutor(loop, "hive-log"), ThreadExecutor(loop, "hive-snapshot"))
    writer = open_kernel_writer(loop, opened.disk)
    host = Host(network, clock, AsyncioLoop(loop), *threads, journal_writer=writer)
    records = IdentityFile(opened.directory, identity, host.snapshot_executor, on_fatal)
    run = secrets.randbits(63)
    peers = Peers(
        node_id=options.node_id,
        cluster_id=identity.cluster_id,
        journal_id=bytes.fromhex(identity.journal_id),
        members=opened.members.addresses(),
        http_address=options.http_address,
        version=options.version,
        fresh=journal.last_index <= 1 and identity.joined is None,
        journal_ids={peer: bytes.fromhex(value) for peer, value in identity.journal_ids.items()},
        remember=records.remember_journals,
        held_at_least=identity.held_at_least,
        may_be_joined=bool(options.cluster_secret),
        rebuilding=identity.rebuilding,
    )

    def ended(error: BaseException) -> None:
        if state_is_damaged(error):
            records.condemn()
        if isinstance(error, StartError) and str(error).startswith(REMOVED):
            records.remember_removed()
        on_fatal(error)

    def installed() -> None:
        records.remember_generation(state.generation, lambda: journal.durable_index >= state.position.index)
        loop.call_later(_RETIRE_AFTER_S, lambda: host.snapshot_executor.submit([state.retire], records.done))

    replica = NodeReplica(
        run_id=f"{run:016x}",
        version=options.version,
        peers=peers,
        on_installed=installed,
        on_fatal=ended,
        on_state_differs=records.remember_differs,
        on_rebuilt=records.remember_rebuilt,
    )
    core_options = CoreOptions(
        options.node_id,
        identity.joined or options.members,
        identity.cluster_id,
        run,
        options.timings,
        options.limits,
        secrets.randbits(63),
        joins=identity.joined is not None,
        rebuilding=identity.rebuilding,
        state_differs=identity.state_differs,
    )
    core = Core(core_options, journal=journal, state=state, machine=machine, peers=peers, host=host, owner=replica)
    # Two steps: what the threads have finished is heard on the loop before anything else is written.
    replica.bind(core, [partial(_end, loop, threads, writer), partial(_finish, opened, records, core)])
    core.start()
    _measure_space(options, loop, core)
    _sync_state_now_and_then(loop, options.timings.state_sync_ms / 1000, state, host, core, records)
    return replica


def _measure_space(options: ReplicaOptions, loop: asyncio.AbstractEventLoop, core: Core) -> None:
    if options.limits.min_free_bytes:
        SpaceWatch(loop, options.data_dir, core.integrity.free_space.measured, lambda: core.stopped).begin()


def _end(
    loop: asyncio.AbstractEventLoop, threads: Iterable[ThreadExecutor], writer: KernelWriter | None
) -> None:
    for thread in threads:
        thread.close()
    if writer is not None:
        loop.call_soon_threadsafe(writer.close)


def _finish(opened: Opened, records: IdentityFile, core: Core) -> None:
    """Everything to disk, then the mark that says so, then let go. Blocks."""
    try:
        # A fault vouches for nothing.
        if not core.failed:
            _mark_clean(opened, records)
    except OSError as error:
        raise StartError(
            f"the node has stopped, but its end could not be written: {error.strerror or error}; nothing acknowledged "
            f"is lost; {way_out(error)}, then start it again"
        ) from error
    finally:
        opened.state.let_go()
        opened.disk.close()
        opened.directory.unlock()


def _mark_clean(opened: Opened, records: IdentityFile) -> None:
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
    records: IdentityFile,
) -> None:
    """Write the state back from time to time, so that the kernel never has much to write at once."""

    def again() -> None:
        if not core.stopped:
            host.snapshot_executor.submit([partial(records.sync_or_condemn, state)], records.done)
            loop.call_later(period_s, again)

    loop.call_later(period_s, again)
