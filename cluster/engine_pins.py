"""The contract with PySyncObj 0.3.17: which files must be what they were when they were read, and what of their
inside is used.

The engine's guards lean on private names, so any other version of it is refused at import, whatever its number says.

| private name | used for | line it answers to |
| --- | --- | --- |
| `syncobj.createJournal` | injects the journal object | syncobj.py:41,166 |
| `syncobj.monotonicTime` | the node's own clock (`engine._now`) | every timeout |
| `__generateRaftTimeout` (override) | the node's own randomness, and its settings | 1108 |
| `__applyLogEntries` (override) | H6, H7, H12: raw entries, applied at most once, only what is durable | 706-734 |
| `__serializer` (replaced) | H9, H14, H17: snapshots are images, shipped out of band | 623, 1025, 1310, 1419 |
| `_poller` (replaced) | a system call less in every tick | 196, 704 |
| `__loadDumpFile` (called) | the snapshot is loaded before any peer is heard | 1478 |
| `__raftLastApplied` (set) | the state may be ahead of the snapshot after a restart | 176 |
| `__raftCommitIndex` (raised) | what is applied is committed, whatever the disk says | 175 |
| `__raftElectionDeadline` | pre-vote, stickiness, transfer, stalled disks | 634 |
| `__transferInProgress` | lets a transfer pass the pre-vote | 917 |
| `__raftNextIndex` | H2 (speed): an acknowledgement never rewinds what was sent | 1082 |
| `__raftMatchIndex` | status, and the choice of a transfer's target | 1080 |
| `__lastResponseTime` | check-quorum credits contact on arrival | 1083 |
| `__newAppendEntriesTime` | sends a batch at once instead of at the next period | 697 |
| `__sendAppendEntries` (called) | a batch leaves before the tick applies older ones | 1240 |
| `__noopIDx` | the first entry of the leader's own term | 1228 |
| `__raftState`, `__setState`, `__raftLeader` | an isolated or stalled leader steps down | 684 |
| `__otherNodes`, `__readonlyNodes` (replaced) | members change at any time; learners are read-only nodes | 143, 147 |
| `__transferInProgress` (cleared) | a node that may not campaign is not made to by a transfer | 636 |
| `__votedForNodeId`, `__setCurrentTerm` (called) | who comes back without a log votes no more in its term | 937, 1234 |
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

PINNED_VERSION = "0.3.17"

SHA256 = {
    "syncobj.py": "e8bdf06797085d734df86e24ab4802fe87893dff77268565ec036f7ad4a1cfe4",
    "serializer.py": "4d39fde2f15000ad8f507ec229ebd4f6a86371b6f84d4dc1439a9cccd52857ee",
    "journal.py": "9cf1eaf6acc704581a4cf7d3de330a404403913107adc91c929778b7e3f35edf",
    "transport.py": "0c9d89f9c4781ec9772df8011d7975a1a4a1a5f541357e12eae85a813e92b50b",
    "node.py": "e4a3f027cd8291f558334bb9c977e952f6b6989e7e1fa1588d3005ef0b990e2c",
    "config.py": "fbbc7ff9f18e4d15a7fd563376e42f5bd192956879d4b810b056d5248b955698",
}


class WrongEngineError(ImportError):
    """The installed PySyncObj is not the one whose every line was read."""


def check_engine() -> None:
    """Raise WrongEngineError unless the installed engine is, byte for byte, the pinned one."""
    spec = importlib.util.find_spec("pysyncobj")
    if spec is None or spec.origin is None:
        raise WrongEngineError(f"pysyncobj is not installed; install pysyncobj=={PINNED_VERSION}")
    folder = Path(spec.origin).parent
    for name, expected in SHA256.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != expected:
            raise WrongEngineError(
                f"pysyncobj/{name} is not that of version {PINNED_VERSION} (sha256 {found[:16]}); the guards do not "
                f"hold for it. Install pysyncobj=={PINNED_VERSION} unmodified"
            )
