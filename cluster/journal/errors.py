"""Why a journal cannot be opened, or can no longer be used. Every text is one line and names the way out."""

from __future__ import annotations

RESTORE = (
    "nothing was changed; bring the whole directory back as it was, or run hive resync to rebuild this node from the "
    "others"
)


class JournalError(Exception):
    """The journal cannot be used."""


class JournalDamaged(JournalError):  # noqa: N818  # named for what is wrong
    """Bytes that were once durable have changed; to go on would be to forget acknowledged entries."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the log is damaged: {what}; {RESTORE}")


class JournalVersion(JournalError):  # noqa: N818  # named for what is wrong
    """The journal was written by a newer release."""


class JournalForeign(JournalError):  # noqa: N818  # named for what is wrong
    """The segments belong to another journal than the one this node's identity names."""


class JournalMissing(JournalError):  # noqa: N818  # named for what is wrong
    """There is no journal where this node's identity says there is one."""


class JournalExists(JournalError):  # noqa: N818  # named for what is wrong
    """A new journal was asked for where one is already in use."""


class JournalFailed(JournalError):  # noqa: N818  # named for what is wrong
    """An earlier failure, or `close`, has ended the journal; it accepts nothing more."""


class JournalConflict(JournalError):  # noqa: N818  # named for what is wrong
    """The engine was about to drop or contradict committed entries: a bug that must stop the node."""
