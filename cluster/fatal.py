"""The end of a node that must not go on: what was wrong and what to do, in one last line of its log."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from typing import NoReturn

import lmdb

from cluster.identity import StartError
from cluster.journal import JournalError

log = logging.getLogger("hive.cluster")

EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h, so that a supervisor can tell it from a start that was refused."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def stop_at_once(error: BaseException) -> NoReturn:
    """End the process; nothing more is written or said. The trace comes first, for a reader who looks for a defect."""
    if not isinstance(error, StartError):
        log.error("the fault that ends this node", exc_info=error)
    log.critical("stopping at once: %s", last_words(error))
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(EXIT_STATUS)


def last_words(error: BaseException) -> str:
    """What was wrong and what to do, on one line."""
    if isinstance(error, StartError):
        return str(error)
    return f"{' '.join(str(error).split()) or type(error).__name__}; {way_out(error)}"


def out_of_space(error: BaseException) -> bool:
    """Whether the disk was full, and nothing else was wrong."""
    return any(
        isinstance(cause, lmdb.DiskError) or (isinstance(cause, OSError) and cause.errno in _NO_SPACE)
        for cause in _causes(error)
    )


_DAMAGED = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError, lmdb.InvalidError)


def state_is_damaged(error: BaseException) -> bool:
    """Whether pages of the state could not be read, so that it has to be built again."""
    return any(isinstance(cause, _DAMAGED) for cause in _causes(error))


def way_out(error: BaseException) -> str:
    """What the operator can do about a fault of the disk; for anything else it is ours."""
    for cause in _causes(error):
        if isinstance(cause, lmdb.MapFullError):
            return "give a larger --state-map-bytes and start this node again"
        if out_of_space(cause):
            return "free some space and start this node again"
        if isinstance(cause, _DAMAGED):
            return "start this node again: it builds its state anew from snapshot and log; if it does not, hive resync"
        if isinstance(cause, OSError | lmdb.Error | JournalError):
            # LMDB calls a write that a full disk cut short an input/output error.
            return "check its disk, free space and permissions, then start this node again"
    return f"this is a defect ({type(error).__name__}): the lines above say where; start this node again, and report it"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, what that came from, …: the first cause last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
