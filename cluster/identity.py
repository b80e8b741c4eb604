"""node.json: who this data directory belongs to, and whether the state in it can be trusted after a restart.

Written aside, fsynced, renamed: there is always one whole file. The directory is locked while a node runs on it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

FORMAT = 2
"""Of what is in a data directory. 2: the state has rows for queues and for tasks that have ended, which are kept with
every transition; a state without them cannot be gone on with."""

_FOUND_IN_NEW = {"LOCK", "lost+found", "node.json.new"}
"""What a directory may hold that never held an identity."""


class StartError(Exception):
    """The node cannot start; the data was not touched. The text is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class CleanMark:
    """The state was written to disk completely when it stood here."""

    index: int
    term: int


@dataclass(frozen=True, slots=True)
class Identity:
    """The content of node.json. Ids are hexadecimal; `journal_ids` are those of the other members, `held_at_least` the
    log that each of them has acknowledged once, `joined` the members (peer addresses by id) that a node was told when
    it joined a cluster.

    `generation` is None only until the first start has made journal and state: such a node has told nobody anything,
    unless it is `rebuilding`: then it has lost its log, and counts for nothing until it has caught up (rebuilding.py).
    `state_differs` says how its state was found to be another than the others', until it is built anew. `removed`: the
    cluster has removed it, for good.
    """

    node_id: str
    cluster_id: str
    journal_id: str
    boot_id: str
    file_system_id: str
    generation: int | None = None
    clean: CleanMark | None = None
    journal_ids: dict[str, str] = field(default_factory=dict)
    held_at_least: dict[str, int] = field(default_factory=dict)
    joined: dict[str, str] | None = None
    format: int = FORMAT
    rebuilding: bool = False
    state_differs: str = ""
    removed: bool = False


def boot_id() -> str:
    """Changes with every start of the machine: the page cache did not survive it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return secrets.token_hex(8)


def file_system_id(path: Path) -> str:
    """Changes when the directory was moved to another file system, or copied back onto one."""
    status = path.stat()
    return f"{status.st_dev}-{status.st_ino}"


class DataDirectory:
    """A locked data directory."""

    def __init__(self, path: Path) -> None:
        """Make it if it is not there, and lock it. Raises StartError."""
        self.path = path
        try:
            # A directory that is not Hive's is left without even a lock file.
            if path.is_dir() and not (path / "LOCK").exists():
                self._refuse_strangers()
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StartError(
                f"cannot use data directory {path}: {error.strerror}; check its owner, and that its disk is "
                "writable and not full"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StartError(f"data directory {path} is in use by another process; stop that node first") from error

    def _refuse_strangers(self) -> None:
        """Raise StartError if the directory is not new and has no identity."""
        names = {path.name for path in self.path.iterdir()}
        strangers = sorted(names - _FOUND_IN_NEW)
        if strangers and "node.json" not in names:
            raise StartError(
                f"data directory {self.path} holds {strangers[0]} but no node.json; it is not Hive's, or "
                "node.json was lost: give an empty directory, or bring node.json back"
            )

    def unlock(self) -> None:
        """Let another process have it."""
        os.close(self._lock)

    def load(self) -> Identity | None:
        """The identity, or None for a directory that never held one. Raises StartError."""
        file = self.path / "node.json"
        if not file.exists():
            self._refuse_strangers()
            return None
        try:
            raw = json.loads(file.read_bytes())
            found = int(raw["format"])
            if found != FORMAT:
                raise StartError(
                    f"data directory {self.path} has format {found}, this version reads {FORMAT}: "
                    "start the version that wrote it"
                )
            clean = raw.pop("clean")
            return Identity(**raw, clean=None if clean is None else CleanMark(**clean))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StartError(
                f"cannot read {file}: {error}; bring node.json back from a copy, or rebuild this node from its "
                "peers under a new id"
            ) from error

    def save(self, identity: Identity) -> None:
        """Replace node.json durably. Raises OSError."""
        aside = self.path / "node.json.new"
        with aside.open("w") as file:
            json.dump(asdict(identity), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(self.path / "node.json")
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_identity(found: Identity, *, node_id: str) -> None:
    """Raise StartError unless the directory belongs to this node."""
    if found.node_id != node_id:
        raise StartError(
            f"the data directory belongs to node {found.node_id}, not {node_id}: "
            f"give --node-id {found.node_id} or another --data-dir"
        )


def check_cluster(found: Identity, cluster_id: str) -> None:
    """Raise StartError unless the directory belongs to this cluster."""
    if found.cluster_id != cluster_id:
        raise StartError(
            f"the data directory belongs to cluster {found.cluster_id}, the members given make cluster "
            f"{cluster_id}: give the members it was made with, or another --data-dir"
        )


def state_is_valid(found: Identity, here: DataDirectory, *, applied: tuple[int, int]) -> bool:
    """Whether the recorded generation may be used as it is: written by this boot on this file system (the page cache is
    still there), or marked clean at exactly where it stands."""
    same_boot = found.boot_id == boot_id() and found.file_system_id == file_system_id(here.path)
    clean = found.clean is not None and (found.clean.index, found.clean.term) == applied
    return same_boot or clean


def with_run(found: Identity, here: DataDirectory) -> Identity:
    """The identity as this run leaves it behind if it dies: this boot, no clean mark."""
    return replace(found, boot_id=boot_id(), file_system_id=file_system_id(here.path), clean=None)
