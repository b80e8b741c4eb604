"""How commands are put together into entries does not show in the state, whatever they are and whichever fail."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest

from statemachine import audit, machine
from statemachine.commands import ClaimTasks, Command, DeleteSession
from statemachine.context import Context
from statemachine.entry import Batch, Frame, Header
from statemachine.machine import Applied
from statemachine.outcome import Outcome, Refused
from statemachine.store import MemoryStore, Reader
from tests.statemachine.harness import Harness
from tests.statemachine.whole_life import WholeLife

STEPS = 300
PER_GROUP = b"CM"
"""The feed has a group an entry, which meta counts."""


def _frames_of(seed: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Frame]]:
    frames: list[tuple[int, Frame]] = []
    apply = machine.apply

    def recording(reader: Reader, header: Header, batches: Sequence[Batch]) -> Applied:
        frames.extend((header.time_ms, frame) for batch in batches for frame in batch.frames)
        return apply(reader, header, batches)

    with monkeypatch.context() as patched:
        patched.setattr(machine, "apply", recording)
        WholeLife(seed).live(STEPS)
    return frames


def _apply(store: MemoryStore, time_ms: int, frames: Sequence[Frame]) -> list[Outcome]:
    applied = machine.apply(store, Header(time_ms, 1), [Batch(1, 1, tuple(frames))])
    store.apply(applied.writes)
    return list(applied.outcomes[0])


def _content(store: MemoryStore) -> dict[bytes, bytes]:
    return {key: value for key, value in store.scan(b"\x00", b"\xff") if key[0] not in PER_GROUP}


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_commands_of_one_entry_do_what_they_do_alone(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = _frames_of(seed, monkeypatch)
    rng = random.Random(seed)
    together, alone = MemoryStore(), MemoryStore()
    position = 0
    while position < len(frames):
        group = frames[position : position + rng.randint(1, 12)]
        position += len(group)
        time_ms = group[-1][0]
        told = _apply(together, time_ms, [frame for _, frame in group])
        told_alone = [outcome for _, frame in group for outcome in _apply(alone, time_ms, [frame])]
        assert told == told_alone
        assert _content(together) == _content(alone)
    meta = machine.read_meta(together)
    assert meta == msgspec.structs.replace(machine.read_meta(alone), feed_groups=meta.feed_groups)
    assert audit.audit(together) == []
    assert len(frames) > STEPS // 2


@pytest.mark.parametrize("error", [RuntimeError("defect"), Refused("conflict", "too late")])
def test_a_claim_that_fails_after_its_writes_leaves_records_shared_with_others_as_they_were(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue and the load of the agent are changed in place by all three."""
    claim = machine.HANDLERS[ClaimTasks]

    def failing(ctx: Context, _: DeleteSession) -> Outcome:
        claim(ctx, ClaimTasks(agent_id="a1", epoch=1, task_ids=("t2",)))
        raise error

    handlers: dict[type[Command], machine.Handler] = {**machine.HANDLERS, DeleteSession: failing}
    monkeypatch.setattr(machine, "HANDLERS", handlers)
    h, other = Harness(), Harness()
    for one in (h, other):
        one.register("a1", slots=9)
        for number in range(4):
            one.submit(f"t{number}")
        one.run("t0")
    first, third = (
        ClaimTasks(agent_id="a1", epoch=1, task_ids=("t1",)),
        ClaimTasks(agent_id="a1", epoch=1, task_ids=("t3",)),
    )
    frames = h.frame(DeleteSession("s")), h.frame(first), h.frame(DeleteSession("s")), h.frame(third)
    outcomes = _apply(h.store, h.time_ms, frames)
    assert [outcome.refusal is not None for outcome in outcomes] == [True, False, True, False]
    other.apply(other.frame(first), other.frame(third))
    assert _content(h.store) == _content(other.store)
    assert audit.audit(h.store) == []
