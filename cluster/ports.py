"""What the consensus core needs from the machine it runs on.

The core never touches a socket, a file, a clock or a thread itself: it is given these five things. The real ones
live in
`cluster/real/`; the deterministic ones, with faults, in the simulator. Everything in between is the same code.

CALLBACKS RUN ON THE CORE'S THREAD. An implementation that works on another thread hands its result back through the
loop; it never calls into the core from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Clock(Protocol):
    """Time of one machine."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back; used for every timeout."""

    def wall_ms(self) -> int:
        """Unix time in milliseconds; may jump; used only to stamp entries, after the peers' clocks are consulted."""


class Timer(Protocol):
    """A pending `call_later`."""

    def cancel(self) -> None:
        """Forget the call; harmless when it already ran."""


class Loop(Protocol):
    """The core's own thread of execution."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once after `delay_s` seconds."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` after the current one has returned."""


class Executor(Protocol):
    """A worker that may block, so that the core's thread never does.

    Jobs of one executor run one after the other, in the order they were given.
    """

    def submit(self, steps: Sequence[Callable[[], None]], done: Callable[[BaseException | None], None]) -> None:
        """Run every step in order, off the core's thread, then `done(error)` on the core's thread.

        A step that raises ends the job. Steps are separate so that a simulated crash can fall between a write and
        its fsync.
        """


class DurableWriter(Protocol):
    """A way to make a write durable that neither blocks nor needs a thread. Where there is one, the log uses it."""

    def write(self, name: str, offset: int, data: bytes, done: Callable[[BaseException | None], None]) -> None:
        """Write at `offset` of a file and fsync it, then `done(error)` on the core's thread, never before this returns.

        Not ordered with the jobs of an executor.
        """


class Disk(Protocol):
    """One directory of flat files. Every method may raise OSError, and may block: only executors and start-up call it.

    Bytes are durable only after `sync`; names only after `sync_directory`.
    """

    def names(self) -> list[str]:
        """Names of all files, sorted."""

    def size(self, name: str) -> int:
        """Length of a file, bytes."""

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""

    def create(self, name: str, preallocate_bytes: int = 0) -> None:
        """Create an empty file, or one of that many zero bytes with its blocks reserved; fails if it exists."""

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write at `offset`; not durable yet."""

    def truncate(self, name: str, length: int) -> None:
        """Cut or extend a file to `length` bytes."""

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing `new` if it exists."""

    def delete(self, name: str) -> None:
        """Remove a file."""

    def sync(self, name: str) -> None:
        """fdatasync one file."""

    def sync_directory(self) -> None:
        """fsync the directory, so that creates, renames and deletes last."""


class Network(Protocol):
    """Connections to the other members: at most one live connection per peer, messages in order or not at all.

    Messages are plain msgpack-able dictionaries. A message is lost only when its connection breaks. A new connection of
    a peer is announced ONLY AFTER the old one was reported lost, and nothing of the old one is delivered after that.
    """

    def start(self, receiver: Receiver) -> None:
        """Begin to connect and accept; `receiver` gets everything from now on."""

    def set_members(self, addresses: Mapping[str, str]) -> None:
        """Speak with these from now on (peer address by node id, without this node); harmless when nothing changed.

        Who is no longer among them is not dialed again; who has another address, at that one.
        """

    def send(self, peer_id: str, message: dict[str, Any]) -> bool:
        """Queue a message; False when there is no connection, or too much is in flight: nothing was queued then.

        After a False for the latter, `Receiver.on_drained` tells when sending may go on.
        """

    def disconnect(self, peer_id: str, reason: str) -> None:
        """Cut the connection; it is reported lost at once and made again later."""

    def close(self) -> None:
        """Close every connection and stop accepting."""


class Receiver(Protocol):
    """What a network delivers to."""

    def on_connected(self, peer_id: str, hello: dict[str, Any]) -> None:
        """A connection was made and both sides accepted each other's hello."""

    def on_refused(self, peer_id: str, reason: str) -> None:
        """The peer does not accept this node's hello, or this node not the peer's; it is tried again later."""

    def on_disconnected(self, peer_id: str) -> None:
        """The connection is gone."""

    def on_drained(self, peer_id: str) -> None:
        """A peer that read too slowly has caught up with what was queued for it."""

    def on_message(self, peer_id: str, message: dict[str, Any]) -> None:
        """One message, in the order it was sent."""

    def hello(self) -> dict[str, Any]:
        """What this node says of itself when a connection is made."""

    def refuse_hello(self, peer_id: str, hello: dict[str, Any]) -> str | None:
        """Why a peer with this hello is refused; None accepts it."""
