"""What a core is given to live on, and whom it answers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from cluster.ports import Clock, DurableWriter, Executor, Loop, Network
from cluster.replica import Notice
from cluster.settings import Limits, Timings


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """What a core is. `run` is random and new with every start: it names this node's batches.

    `members` (peer addresses by id) counts until the state knows the members; `joins`: this node is a learner then.
    """

    node_id: str
    members: Mapping[str, str]
    cluster_id: str
    run: int
    timings: Timings
    limits: Limits
    seed: int
    joins: bool = False
    rebuilding: bool = False
    state_differs: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """The machine. Two executors, since a snapshot takes long and an fsync must not wait for it."""

    network: Network
    clock: Clock
    loop: Loop
    journal_executor: Executor
    snapshot_executor: Executor
    journal_writer: DurableWriter | None = None


class GuardedExecutor:
    """An executor whose results are taken as the core takes everything else: a fault in it ends the node. The loop
    would only log it."""

    def __init__(self, executor: Executor, guarded: Callable[[Callable[[], None]], None]) -> None:
        self._executor = executor
        self._guarded = guarded

    def submit(self, steps: Sequence[Callable[[], None]], done: Callable[[BaseException | None], None]) -> None:
        """As `ports.Executor`; what ends after the core has stopped is not heard."""
        self._executor.submit(steps, lambda error: self._guarded(partial(done, error)))


class GuardedWriter:
    """A durable writer whose results are taken as those of a `GuardedExecutor`."""

    def __init__(self, writer: DurableWriter, guarded: Callable[[Callable[[], None]], None]) -> None:
        self._writer = writer
        self._guarded = guarded

    def write(self, name: str, offset: int, data: bytes, done: Callable[[BaseException | None], None]) -> None:
        """As `ports.DurableWriter`; what ends after the core has stopped is not heard."""
        self._writer.write(name, offset, data, lambda error: self._guarded(partial(done, error)))


class Owner(Protocol):
    """Who runs the core; called on the core's thread, and never raises."""

    def on_notice(self, notice: Notice) -> None:
        """An entry became visible."""

    def role_changed(self) -> None:
        """Role, leader or term changed."""

    def installed(self) -> None:
        """The state was replaced by a snapshot; its generation counts once the log's reset is durable."""

    def state_differs(self, text: str) -> None:
        """This node's state is not the others': to be remembered until it is built anew."""

    def rebuilt(self, then: Callable[[], None]) -> None:
        """This node holds again what it must: to be remembered, and `then` to be called when it is."""

    def on_message(self, peer_id: str, message: Mapping[str, Any]) -> None:
        """A `call`, or the `reply` to one."""

    def on_refused(self, peer_id: str, reason: str) -> None:
        """A handshake with a peer failed."""

    def on_fatal(self, error: BaseException) -> None:
        """The node must end, now: nothing more may be written or said."""
