"""node.json of a running node: what must be found again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import lmdb

from cluster.identity import DataDirectory, Identity
from cluster.lmdb_state import LmdbState
from cluster.ports import Executor


class IdentityFile:
    """Changed rarely, and never on the core's thread."""

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

    def remember_journals(self, journal_ids: dict[str, bytes], held_at_least: dict[str, int]) -> None:
        """A member was met for the first time, or is gone and had acknowledged more than was known."""
        self.identity = replace(
            self.identity,
            journal_ids={peer: journal.hex() for peer, journal in sorted(journal_ids.items())},
            held_at_least=held_at_least,
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

    def remember_differs(self, text: str) -> None:
        """The state is not the others', also after a restart."""
        self.identity = replace(self.identity, state_differs=text)
        self._save()

    def remember_rebuilt(self, then: Callable[[], None]) -> None:
        """This node holds again what it must; `then` is called when that is on disk."""
        self.identity = replace(self.identity, rebuilding=False)

        def done(error: BaseException | None) -> None:
            self.done(error)
            if error is None:
                then()

        self._executor.submit([partial(self.store, self.identity)], done)

    def remember_removed(self) -> None:
        """This node was removed from its cluster, which its own log may never tell it. Blocks; the node ends."""
        self.identity = replace(self.identity, removed=True)
        self.store(self.identity)

    def condemn(self) -> None:
        """The state cannot be read: the next start builds it again from snapshot and log. Blocks; the node ends."""
        self._condemned = True
        self.store(self.identity)

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
