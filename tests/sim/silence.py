"""Quiet logs while a simulation runs: its nodes meet faults on purpose, thousands of times."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("pysyncobj", "hive")


@contextmanager
def silence() -> Iterator[None]:
    """Nothing of nodes and engine is logged; afterwards everything is as it was."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
