"""Snapshots: taken while the node works, offered to members that are behind the log, fetched by pulling.

Stands in for the engine's Serializer. A snapshot is an image of the state with a manifest; it counts once both are
durable, and only then is the log trimmed. A member behind the log is offered the manifest and pulls the image in chunks
at its own pace, goes on after a broken connection, checks the digest, and only then lets its engine take it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from cluster.fatal import out_of_space
from cluster.messages import ProtocolViolationError
from cluster.ports import Clock, Executor
from cluster.replica import Metrics
from cluster.state import Capture, Position, Receiving, State

_CHUNK_BYTES = 512 << 10
_PULL_TIMEOUT_S = 2.0
_SPACE_PAUSE_S = 30.0
"""After the disk was full for a snapshot, or for an image that is fetched: the next try would fill it up again."""

_NOT_SERIALIZING, _SERIALIZING, _SUCCESS = 0, 1, 2
"""pysyncobj.config.SERIALIZER_STATE."""

Message = dict[str, Any]
log = logging.getLogger("hive.cluster.snapshots")


class Manifest(msgspec.Struct, array_like=True, frozen=True):
    """What a snapshot is. `previous` and `last` are the log's entries (command, index, term) at index-1 and index."""

    format: int
    cluster_id: str
    position: Position
    previous: tuple[bytes, int, int]
    last: tuple[bytes, int, int]
    image_bytes: int
    image_digest: bytes
    members: tuple[str, ...]


_decoder = msgspec.msgpack.Decoder(Manifest)
decode_manifest = _decoder.decode
encode_manifest = msgspec.msgpack.Encoder().encode


def image_digest(read: Callable[[int, int], bytes], size: int) -> bytes:
    """The digest of an image, read in chunks."""
    digest = hashlib.blake2b(digest_size=32)
    for offset in range(0, size, _CHUNK_BYTES):
        digest.update(read(offset, min(_CHUNK_BYTES, size - offset)))
    return digest.digest()


class Snapshots:
    """The engine's snapshot duty, and the transfer of images between members."""

    def __init__(
        self,
        state: State,
        executor: Executor,
        clock: Clock,
        metrics: Metrics,
        *,
        cluster_id: str,
        members: Callable[[], tuple[str, ...]],
        send: Callable[[str, Message], bool],
        on_fetched: Callable[[str, bytes], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._state = state
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._cluster_id = cluster_id
        self._members = members
        self._send = send
        self._on_fetched = on_fetched
        self._on_failure = on_failure
        manifest = state.manifest()
        self.newest: Manifest | None = None if manifest is None else decode_manifest(manifest)
        self._taking = _NOT_SERIALIZING
        self._taking_index = 0
        self._fetch: _Fetch | None = None
        self.ready: bytes | None = None
        self._taken: list[Callable[[], None]] = []
        self._not_before_s = -1e9

    # --- the engine's face --------------------------------------------------------------------------------------------

    def checkSerializing(self) -> tuple[int, int | None]:  # noqa: N802 - the engine's name
        """Whether a snapshot is being taken; reports its success once."""
        if self._taking == _SUCCESS:
            self._taking = _NOT_SERIALIZING
            return _SUCCESS, self._taking_index
        return self._taking, self._taking_index

    def serialize(self, data: tuple[Any, ...], index: int) -> None:
        """Begin a snapshot. data[1], data[2]: the entries at the applied index, and before it."""
        if self._taking != _NOT_SERIALIZING or self._newer_is_coming(data[1][1]) or self.out_of_space:
            return
        capture, members = self._state.capture(), self._members()
        last, previous = tuple(data[1]), tuple(data[2])
        if capture.position.index != last[1]:
            raise AssertionError(f"state at {capture.position.index}, engine at {last[1]}")
        self._taking, self._taking_index = _SERIALIZING, index
        started_s = self._clock.monotonic_s()
        box: list[Manifest] = []

        def publish() -> None:
            box.append(self._publish(capture, previous, last, members))

        def done(error: BaseException | None) -> None:
            capture.close()
            if error is not None:
                self._failed(capture, error)
                return
            self.newest = box[0]
            self._taking = _SUCCESS
            if self._metrics.on_snapshot is not None:
                self._metrics.on_snapshot(self._clock.monotonic_s() - started_s)
            taken, self._taken = self._taken, []
            for callback in taken:
                callback()
            log.info("snapshot taken index=%d bytes=%d", box[0].position.index, box[0].image_bytes)

        self._executor.submit([*capture.write_steps(), publish], done)

    @property
    def out_of_space(self) -> bool:
        """Whether the disk was too full for a snapshot a short while ago."""
        return self._clock.monotonic_s() < self._not_before_s

    def _failed(self, capture: Capture, error: BaseException) -> None:
        """A disk that is too full for a snapshot is no reason to stop: the log goes on without, for as long as it
        can."""
        if not out_of_space(error):
            self._on_failure(error)
            return

        def abandoned(error: BaseException | None) -> None:
            if error is not None:
                self._on_failure(error)
                return
            self._taking = _NOT_SERIALIZING
            self._not_before_s = self._clock.monotonic_s() + _SPACE_PAUSE_S

        log.error("no snapshot: the disk is full; tried again in %d s; free some space", _SPACE_PAUSE_S)
        self._executor.submit([capture.abandon], abandoned)

    def _newer_is_coming(self, applied_index: int) -> bool:
        """Whether a snapshot is being fetched, or waits to be installed: an own one would be older, and take its place
        on the disk. One that the state has overtaken is dropped."""
        fetch = self._fetch
        if fetch is not None and fetch.manifest.position.index <= applied_index and not fetch.busy:
            self._fetch = None
        if self.ready is not None and decode_manifest(self.ready).position.index <= applied_index:
            self.ready = None
        return self._fetch is not None or self.ready is not None

    def when_taken(self, callback: Callable[[], None]) -> None:
        """Call back once the next snapshot that is completed counts."""
        self._taken.append(callback)

    def _publish(self, capture: Capture, previous: Any, last: Any, members: tuple[str, ...]) -> Manifest:
        size, read = capture.image()
        manifest = Manifest(
            1, self._cluster_id, capture.position, previous, last, size, image_digest(read, size), members
        )
        capture.publish(encode_manifest(manifest))
        return manifest

    def deserialize(self) -> tuple[Any, ...]:
        """The newest snapshot's entries, as the engine wants them (syncobj.py:1478-1495). Never raises: the engine
        would swallow it and go on with an empty state (H9)."""
        if self.newest is None:
            self._on_failure(AssertionError("the engine asked for a snapshot that does not exist"))
            raise AssertionError("no snapshot")
        return None, self.newest.last, self.newest.previous, ()

    def getTransmissionData(self, node: Any) -> tuple[bytes, bool, bool]:  # noqa: N802 - the engine's name
        """What a member behind the log is sent: the manifest, whole."""
        if self.newest is None:
            raise AssertionError("the log was trimmed without a snapshot")
        return encode_manifest(self.newest), True, True

    def setTransmissionData(self, data: Any) -> bool:  # noqa: N802 - the engine's name
        """Called when a fetched snapshot is injected: switch the state to it."""
        if data is None or self.ready is None or data[0] != self.ready:
            return False
        self._state.install()
        self.newest, self.ready = decode_manifest(data[0]), None
        return True

    def cancelTransmisstion(self, node: Any) -> None:  # noqa: N802 - the engine's name
        """Nothing is pushed, so there is nothing to cancel."""

    # --- giving -------------------------------------------------------------------------------------------------------

    def on_pull(self, peer_id: str, message: Message) -> None:
        """A member asks for a piece of the image it was offered; empty when a newer one has replaced it."""
        index, offset = message["index"], message["offset"]
        if self.newest is None or self.newest.position.index != index:
            self._send(peer_id, {"type": "image_gone", "index": index})
            return
        if not 0 <= offset < self.newest.image_bytes:
            raise ProtocolViolationError(f"image pull at byte {offset} of {self.newest.image_bytes}")
        box: list[bytes] = []

        def read() -> None:
            # Asked again here: a newer one may have been published since, and its bytes are not those of this.
            if self._state.snapshot_index() == index:
                box.append(self._state.read_image(offset, _CHUNK_BYTES))

        def done(error: BaseException | None) -> None:
            if error is not None:
                self._on_failure(error)
                return
            if not box:
                self._send(peer_id, {"type": "image_gone", "index": index})
                return
            self._send(peer_id, {"type": "image_chunk", "index": index, "offset": offset, "data": box[0]})

        self._executor.submit([read], done)

    # --- fetching -----------------------------------------------------------------------------------------------------

    def on_offer(self, peer_id: str, manifest_bytes: bytes, applied_index: int) -> None:
        """The leader says the log does not reach back far enough. An image not newer than the state is refused, or
        than one that is here and waits to be installed: it would take that one's place on the disk."""
        try:
            manifest = decode_manifest(manifest_bytes)
        except msgspec.DecodeError as error:
            raise ProtocolViolationError(f"snapshot offer: {error}") from error
        here = applied_index if self.ready is None else max(applied_index, decode_manifest(self.ready).position.index)
        if manifest.cluster_id != self._cluster_id or manifest.position.index <= here:
            self._send(peer_id, {"type": "installed", "index": applied_index})
            return
        if self._fetch is not None and self._fetch.busy:
            self._fetch.peer_id, self._fetch.lost = peer_id, False
            return
        self._fetch = _Fetch(peer_id, manifest, manifest_bytes, self._state.receive(manifest_bytes))
        log.info("fetching snapshot index=%d bytes=%d from=%s", manifest.position.index, manifest.image_bytes, peer_id)
        self._pull()

    def _pull(self) -> None:
        fetch = self._fetch
        if fetch is None:
            return
        fetch.asked_s = self._clock.monotonic_s()
        if fetch.receiving.offset() >= fetch.manifest.image_bytes:
            self._check(fetch)
            return
        index = fetch.manifest.position.index
        self._send(fetch.peer_id, {"type": "image_pull", "index": index, "offset": fetch.receiving.offset()})

    def on_chunk(self, peer_id: str, message: Message) -> None:
        """A piece of the image; pieces that were not asked for are dropped."""
        fetch = self._fetch
        if fetch is None or fetch.busy or fetch.peer_id != peer_id:
            return
        if message["index"] != fetch.manifest.position.index or message["offset"] != fetch.receiving.offset():
            return
        data = message["data"]
        fetch.busy = True
        self._executor.submit([lambda: fetch.receiving.append(data)], lambda error: self._appended(fetch, error))

    def _appended(self, fetch: _Fetch, error: BaseException | None) -> None:
        fetch.busy = False
        if error is not None and out_of_space(error):
            self._wait_for_space(fetch)
        elif error is not None:
            self._on_failure(error)
        elif self._fetch is fetch and fetch.lost:
            self._fetch = None
        elif self._fetch is fetch:
            self._pull()

    def _wait_for_space(self, fetch: _Fetch) -> None:
        """Ask for the same piece again, later."""
        log.error("the image cannot be stored: the disk is full; tried again in %d s; free some space", _SPACE_PAUSE_S)
        fetch.asked_s = self._clock.monotonic_s() + _SPACE_PAUSE_S

    def on_gone(self, peer_id: str, message: Message) -> None:
        """The leader has a newer image; it will offer that."""
        fetch = self._fetch
        if fetch is not None and fetch.peer_id == peer_id and fetch.manifest.position.index == message["index"]:
            self._fetch = None
            self._send(peer_id, {"type": "installed", "index": 0})

    def _check(self, fetch: _Fetch) -> None:
        fetch.busy = True

        def finish() -> None:
            if not fetch.good:
                fetch.good = fetch.receiving.finish(fetch.manifest_bytes, fetch.manifest.image_digest)

        def prepare() -> None:
            if fetch.good:
                for step in self._state.prepare_install():
                    step()

        def done(error: BaseException | None) -> None:
            fetch.busy = False
            if error is not None and out_of_space(error):
                self._wait_for_space(fetch)
                return
            if error is not None:
                self._on_failure(error)
                return
            self._fetch = None
            if fetch.good:
                self.ready = fetch.manifest_bytes
                self._on_fetched(fetch.peer_id, fetch.manifest_bytes)
            else:
                log.error("snapshot from %s does not match its digest; it is fetched again", fetch.peer_id)
                self._send(fetch.peer_id, {"type": "image_damaged", "index": fetch.manifest.position.index})
                self._send(fetch.peer_id, {"type": "installed", "index": 0})

        self._executor.submit([finish, prepare], done)

    def tick(self) -> None:
        """Ask again for a piece that does not come."""
        fetch = self._fetch
        if fetch is not None and not fetch.busy and self._clock.monotonic_s() - fetch.asked_s > _PULL_TIMEOUT_S:
            self._pull()

    def lost(self, peer_id: str) -> None:
        """The connection is gone: the next offer goes on where this one stopped."""
        fetch = self._fetch
        if fetch is not None and fetch.peer_id == peer_id:
            fetch.lost = True
            if not fetch.busy:
                self._fetch = None


class _Fetch:
    """A transfer under way. `busy` while a piece is written or the whole is checked; `lost` when the connection broke
    meanwhile; `good` when the whole was checked."""

    def __init__(self, peer_id: str, manifest: Manifest, manifest_bytes: bytes, receiving: Receiving) -> None:
        self.peer_id = peer_id
        self.manifest = manifest
        self.manifest_bytes = manifest_bytes
        self.receiving = receiving
        self.busy = False
        self.lost = False
        self.good = False
        self.asked_s = 0.0
