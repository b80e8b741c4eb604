"""The durable Raft log: append-only segments, written and fsynced in groups. See DESIGN.md."""

from cluster.journal.errors import (
    JournalConflict,
    JournalDamaged,
    JournalError,
    JournalExists,
    JournalFailed,
    JournalForeign,
    JournalMissing,
    JournalVersion,
)
from cluster.journal.journal import Journal
from cluster.journal.options import JournalOptions
from cluster.journal.retention import Hold
from cluster.journal.stats import JournalStats

__all__ = [
    "Hold",
    "Journal",
    "JournalConflict",
    "JournalDamaged",
    "JournalError",
    "JournalExists",
    "JournalFailed",
    "JournalForeign",
    "JournalMissing",
    "JournalOptions",
    "JournalStats",
    "JournalVersion",
]
