"""What a giver of images answers, whatever is asked and whatever happens to its snapshots meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.lmdb_state import LmdbState
from cluster.memory_state import MemoryState
from cluster.messages import ProtocolViolationError
from cluster.replica import Metrics
from cluster.snapshots import Snapshots
from cluster.state import Position, State
from tests.cluster.clocks import ManualClock

_Done = Callable[[BaseException | None], None]


class _Executor:
    """Runs a job when it is told to."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Sequence[Callable[[], None]], _Done]] = deque()

    def submit(self, steps: Sequence[Callable[[], None]], done: _Done) -> None:
        self._jobs.append((steps, done))

    def work(self) -> None:
        while self._jobs:
            steps, done = self._jobs.popleft()
            for step in steps:
                step()
            done(None)


class _Giver:
    def __init__(self, state: State) -> None:
        self.state = state
        self.executor = _Executor()
        self.sent: list[dict[str, Any]] = []
        self.failures: list[BaseException] = []
        self.snapshots = Snapshots(
            state,
            self.executor,
            ManualClock(),
            Metrics(),
            cluster_id="c",
            members=lambda: ("n1", "n2"),
            send=self._send,
            on_fetched=lambda *_: None,
            on_failure=self.failures.append,
        )

    def _send(self, _peer_id: str, message: dict[str, Any]) -> bool:
        self.sent.append(message)
        return True

    def begin_snapshot(self, index: int) -> None:
        transaction = self.state.begin()
        transaction.write([(b"ta", b"x" * index)])
        transaction.commit(Position(index, 1, b"", index, index))
        self.snapshots.checkSerializing()
        self.snapshots.serialize((None, (b"\x01", index, 1), (b"\x01", index - 1, 1), ()), index - 1)

    def pull(self, index: int, offset: int = 0) -> None:
        self.snapshots.on_pull("n2", {"type": "image_pull", "index": index, "offset": offset})


@pytest.fixture(params=["memory", "lmdb"])
def giver(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    state: State = MemoryState() if request.param == "memory" else LmdbState(tmp_path, 16 << 20, None)
    made = _Giver(state)
    made.begin_snapshot(5)
    made.executor.work()
    yield made
    assert made.failures == []
    state.close()


def test_a_piece_is_sent(giver: _Giver) -> None:
    giver.pull(5, 10)
    giver.executor.work()
    (chunk,) = giver.sent
    assert (chunk["type"], chunk["index"], chunk["offset"]) == ("image_chunk", 5, 10)
    assert chunk["data"] == giver.state.read_image(10, 1 << 20)


def test_a_piece_of_one_is_never_sent_as_one_of_another(giver: _Giver) -> None:
    """Asked for while its successor is being taken, read when that has taken its place on the disk."""
    giver.begin_snapshot(9)
    giver.pull(5)
    giver.executor.work()
    assert giver.sent == [{"type": "image_gone", "index": 5}]


def test_an_older_one_is_gone(giver: _Giver) -> None:
    giver.begin_snapshot(9)
    giver.executor.work()
    giver.pull(5)
    assert giver.sent == [{"type": "image_gone", "index": 5}]


@pytest.mark.parametrize("offset", [-1, -(2**63), 2**63, 2**64 - 1])
def test_a_place_that_is_not_in_it_costs_the_connection_not_the_node(giver: _Giver, offset: int) -> None:
    with pytest.raises(ProtocolViolationError, match="image pull"):
        giver.pull(5, offset)
    giver.executor.work()
    assert giver.sent == []


def test_an_older_one_is_not_fetched_while_a_newer_one_waits_to_be_installed(giver: _Giver, tmp_path: Path) -> None:
    """It would take the newer one's place on the disk, and then the log is cut off behind that."""
    older = giver.state.manifest()
    giver.begin_snapshot(9)
    giver.executor.work()
    newer = giver.state.manifest()
    assert older is not None
    assert newer is not None
    in_memory = isinstance(giver.state, MemoryState)
    taker = _Giver(MemoryState() if in_memory else LmdbState(tmp_path / "to", 16 << 20, None))
    taker.snapshots.on_offer("n1", newer, 1)
    while taker.sent:
        pull = taker.sent.pop()
        giver.pull(pull["index"], pull["offset"])
        giver.executor.work()
        taker.snapshots.on_chunk("n1", giver.sent.pop())
        taker.executor.work()
    assert taker.snapshots.ready == newer
    taker.snapshots.on_offer("n3", older, 1)
    taker.executor.work()
    assert taker.sent == [{"type": "installed", "index": 1}]
    assert taker.state.snapshot_index() == 9
    taker.state.close()
