"""The holder's verbs: fencing, repeats, retries and their back-off, completion with follow-ups and events."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import agent_record, commands, limits, machine, session_record
from statemachine.commands import Backoff, Checkpoint, Completion, Failure, Held, NewEvent, NewTask, Release
from statemachine.outcome import Item, Outcome, Refusal
from statemachine.task_failure import backoff_ms
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1", slots=2)
    h.register("a2", slots=2)
    return h


VERBS: dict[str, Callable[[str, int], commands.Command]] = {
    "accept": lambda agent, n: commands.AcceptTasks(agent, (Held("t1", n),)),
    "checkpoint": lambda agent, n: commands.CheckpointTasks(agent, (Checkpoint("t1", n, 1, "m", b"1"),)),
    "complete": lambda agent, n: commands.CompleteTasks(agent, (Completion("t1", n, b"1"),)),
    "fail": lambda agent, n: commands.FailTasks(agent, (Failure("t1", n, "error", "m", True, None, 0),)),
    "release": lambda agent, n: commands.ReleaseTasks(agent, (Release("t1", n),)),
}


def item_refusal(outcome: Outcome) -> Refusal:
    refusal = outcome.items[0].refusal
    assert refusal is not None
    return refusal


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("agent", "off"), [("a2", 0), ("a1", -1), ("a1", 1), ("ghost", 0)])
def test_fence(h: Harness, verb: str, agent: str, off: int) -> None:
    h.submit()
    attempt = h.claim()
    refusal = h.refusal(VERBS[verb](agent, attempt + off))
    assert refusal.code == "stale_attempt"
    assert refusal.current == {"status": "running", "attempt": 1, "agent_id": "a1", "granted_at": h.time_ms}


@pytest.mark.parametrize("verb", VERBS)
def test_fence_after_the_task_went_to_another(h: Harness, verb: str) -> None:
    h.submit()
    h.claim()
    h.do(commands.ExpireLeases((h.believed(),), (0,)))
    h.claim("t1", "a2")
    refusal = h.refusal(VERBS[verb]("a1", 1))
    assert refusal.code == "stale_attempt"
    assert refusal.current is not None
    assert refusal.current["agent_id"] == "a2"


def plain(item: Item) -> Item:
    """Without the record."""
    return Item(item.status, item.resource_id, item.revision, item.numbers)


@pytest.mark.parametrize("verb", ["complete", "fail", "release"])
def test_a_repeat_gets_the_same_answer(h: Harness, verb: str) -> None:
    h.submit()
    h.claim()
    first = h.item(VERBS[verb]("a1", 1))
    content = h.content()
    assert h.item(VERBS[verb]("a1", 1)) == plain(first)
    assert h.content() == content
    for other in VERBS.keys() - {verb}:
        assert h.refusal(VERBS[other]("a1", 1)).code == "stale_attempt"
    if verb != "complete":
        h.advance(100_000)
        h.do(commands.WakeTasks())
        h.claim("t1", "a2")
        assert h.item(VERBS[verb]("a1", 1)) == plain(first)
        assert h.refusal(VERBS[verb]("a2", 1)).code == "stale_attempt"


def test_wins_are_remembered_within_a_bound(h: Harness) -> None:
    h.submit()
    for _ in range(limits.TASK_WINS_MAX + 1):
        h.release("t1", "a1", h.claim())
    assert h.refusal(VERBS["release"]("a1", 1)).code == "stale_attempt"
    assert h.item(VERBS["release"]("a1", 2)).status == 200
    h.check()


def test_an_unknown_task_is_not_found(h: Harness) -> None:
    for verb in VERBS.values():
        assert h.refusal(verb("a1", 1)).code == "not_found"


def test_the_epoch_is_checked_when_sent(h: Harness) -> None:
    h.submit()
    attempt = h.claim()
    epoch = h.agent("a1").epoch
    refusal = h.refusal(commands.CompleteTasks("a1", (Completion("t1", attempt),), epoch + 1))
    assert (refusal.code, refusal.current) == ("stale_epoch", {"epoch": epoch})
    refusal = h.refusal(commands.CompleteTasks("ghost", (Completion("t1", attempt),), 1))
    assert (refusal.code, refusal.current) == ("stale_epoch", {"epoch": None})
    assert h.item(commands.CompleteTasks("a1", (Completion("t1", attempt),), epoch)).status == 200


def test_accept_of_an_offer_and_again(h: Harness) -> None:
    h.submit(lease_ms=7_000)
    attempt = h.offer()
    assert (h.task("t1").status, h.task("t1").tries) == ("assigned", 0)
    h.accept("t1", "a1", attempt)
    task = h.task("t1")
    assert (task.status, task.tries, task.grant_ms) == ("running", 1, 7_000)
    content = h.content()
    assert h.accept("t1", "a1", attempt).items[0].status == 200
    assert h.content() == content


@pytest.mark.parametrize("verb", ["checkpoint", "complete", "fail"])
def test_a_verb_on_an_offer_accepts_it(h: Harness, verb: str) -> None:
    h.submit(expires_unstarted_ms=60_000)
    h.item(VERBS[verb]("a1", h.offer()))
    assert (h.task("t1").tries, h.task("t1").started_at) == (1, h.time_ms)
    h.check()


def test_complete_keeps_result_artifacts_usage(h: Harness) -> None:
    h.submit()
    h.fail("t1", "a1", h.claim())
    h.do(commands.FailTasks("a1", (Failure("t1", h.claim(), "error", "m", True, (1, 2, 3), 0),)))
    done = Completion("t1", h.claim(), b'{"ok":1}', b"[]", (10, 20, 30))
    h.item(commands.CompleteTasks("a1", (done,)))
    task = h.task("t1")
    assert (task.result, task.artifacts, task.usage, task.failure) == (b'{"ok":1}', b"[]", (11, 22, 33), None)
    assert (task.status, task.agent_id, task.holder_no, task.completed_at) == ("completed", "a1", 0, h.time_ms)
    load = agent_record.load_of(h.store, h.agent("a1").number)
    assert (load.held, load.completed, load.failed) == (0, 1, 2)
    assert h.changes[0].topics == ("queue.default", "agent.a1")
    assert h.changes[0].data == {"from": "running", "to": "completed", "attempt": 3, "agent_id": "a1"}


def test_follow_ups_and_events_ride_along(h: Harness) -> None:
    h.item(commands.CreateSession("s1"))
    h.submit()
    next_tasks = (NewTask("n1", depends_on=("t1",)), NewTask("n2", depends_on=("n1",)))
    logged = tuple(("s1", NewEvent(f"e{i}", "custom.step")) for i in range(2))
    item = h.item(commands.CompleteTasks("a1", (Completion("t1", h.claim(), tasks=next_tasks, events=logged),)))
    assert (h.task("n1").status, h.task("n2").status) == ("pending", "blocked")
    assert {change.revision for change in h.changes} == {item.revision}
    session = session_record.find(h.store, h.project_no(), "s1")
    assert session is not None
    assert session.last_seq == 2
    h.check()


@pytest.mark.parametrize(
    ("tasks", "logged", "code"),
    [
        ((NewTask("n1"), NewTask("n2", depends_on=("nope",))), (), "invalid_request"),
        ((NewTask("n1"), NewTask("t1")), (), "exists"),
        ((NewTask("n1"),), (("nowhere", NewEvent("e", "custom.step")),), "not_found"),
    ],
)
def test_refused_follow_ups_undo_the_completion(
    h: Harness, tasks: tuple[NewTask, ...], logged: tuple[tuple[str, NewEvent], ...], code: str
) -> None:
    h.submit(payload=b"1")
    h.submit("waits", depends_on=("t1",))
    h.submit("t2")
    attempt = h.claim()
    h.claim("t2")
    revision = machine.read_meta(h.store).revision
    completion = Completion("t1", attempt, tasks=tasks, events=logged)
    assert h.refusal(commands.CompleteTasks("a1", (completion,))).code == code
    assert machine.read_meta(h.store).revision == revision
    both = h.do(commands.CompleteTasks("a1", (completion, Completion("t2", 1))))
    assert [item.status for item in both.items] == [0, 200]
    assert (h.task("t1").status, h.task("waits").status, h.task("t2").status) == ("running", "blocked", "completed")
    h.check()


def test_a_refused_completion_uses_up_no_effects(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 1)
    for name in ("t1", "t2"):
        h.submit(name)
        h.submit(f"after-{name}", depends_on=(name,))
        h.claim(name)
    refused = Completion("t1", 1, tasks=(NewTask("n", depends_on=("nope",)),))
    h.do(commands.CompleteTasks("a1", (refused, Completion("t2", 1))))
    assert (h.task("after-t1").status, h.task("after-t2").status) == ("blocked", "pending")
    h.check()


def test_fail_retries_until_the_attempts_are_used_up(h: Harness) -> None:
    h.submit(max_attempts=2, backoff=Backoff(1_000, 20_000, 60_000, 0))
    h.fail("t1", "a1", h.claim())
    task = h.task("t1")
    assert (task.status, task.due_at, task.tries) == ("scheduled", h.time_ms + 1_000, 1)
    assert task.failure is not None
    assert (task.failure.reason, task.failure.attempt, task.agent_id) == ("error", 1, None)
    h.advance(999)
    assert h.do(commands.WakeTasks()).items == ()
    h.advance(1)
    assert [item.resource_id for item in h.do(commands.WakeTasks()).items] == ["t1"]
    h.fail("t1", "a1", h.claim())
    assert (h.task("t1").status, h.task("t1").completed_at) == ("failed", h.time_ms)
    h.check()


def test_fail_not_retryable(h: Harness) -> None:
    h.submit()
    h.fail("t1", "a1", h.claim(), retryable=False)
    assert h.task("t1").status == "failed"


def test_release_gives_the_try_back(h: Harness) -> None:
    h.submit(max_attempts=1)
    item = h.item(commands.ReleaseTasks("a1", (Release("t1", h.claim(), b'{"at":3}', "shutting down"),)))
    task = h.task("t1")
    assert (task.status, task.tries, task.attempt, task.checkpoint) == ("pending", 0, 1, b'{"at":3}')
    assert (task.avoid_agent_id, task.agent_id, task.revision) == ("a1", None, item.revision)
    assert h.changes[0].type == "task.released"
    h.release("t1", "a1", h.offer())
    assert (h.task("t1").tries, h.task("t1").attempt) == (0, 2)
    h.run("t1")
    h.check()


def test_checkpoint_is_seen_by_the_next_attempt(h: Harness) -> None:
    h.submit()
    attempt = h.claim()
    h.item(commands.CheckpointTasks("a1", (Checkpoint("t1", attempt, 2_500, "a quarter", b"25"),)))
    task = h.task("t1")
    assert (task.fraction, task.progress_message, task.checkpoint) == (2_500, "a quarter", b"25")
    h.item(commands.CheckpointTasks("a1", (Checkpoint("t1", attempt, None, None, None),)))
    assert h.task("t1").fraction == 2_500
    h.release("t1", "a1", attempt)
    h.claim("t1", "a2")
    assert (h.task("t1").checkpoint, h.task("t1").fraction) == (b"25", None)


def test_cancelled_keeps_its_holder_until_it_confirms(h: Harness) -> None:
    h.submit()
    attempt = h.claim()
    h.item(commands.CancelTask("t1"))
    assert h.refusal(VERBS["complete"]("a1", attempt)).current == {
        "status": "cancelled",
        "attempt": 1,
        "agent_id": "a1",
        "granted_at": h.time_ms,
    }
    number = h.agent("a1").number
    assert agent_record.load_of(h.store, number).held == 1
    assert h.refusal(VERBS["release"]("a2", attempt)).code == "stale_attempt"
    assert h.item(VERBS["release"]("a1", attempt)).status == 200
    assert agent_record.load_of(h.store, number).held == 0
    content = h.content()
    assert h.item(VERBS["release"]("a1", attempt)).status == 200
    assert h.content() == content
    h.check()


def test_a_cancelled_offer_frees_its_slot_at_once(h: Harness) -> None:
    h.submit()
    attempt = h.offer()
    h.item(commands.CancelTask("t1"))
    assert agent_record.load_of(h.store, h.agent("a1").number).held == 0
    assert h.refusal(VERBS["accept"]("a1", attempt)).code == "stale_attempt"
    assert h.item(VERBS["release"]("a1", attempt)).status == 200


def test_history_is_bounded_and_ends_with_the_last(h: Harness) -> None:
    h.submit()
    for _ in range(limits.HISTORY_TRANSITIONS_MAX):
        h.release("t1", "a1", h.claim())
    h.item(commands.ReleaseTasks("a1", (Release("t1", h.claim(), None, "x" * 1_000),)))
    task = h.task("t1")
    assert len(task.history) == limits.HISTORY_TRANSITIONS_MAX
    assert task.history[-1].attempt == task.attempt
    assert task.history[-1].reason == "x" * 100


RATIO = st.integers(0, 100_000)


@given(
    st.integers(0, 10**9),
    RATIO,
    st.integers(0, 10**9),
    st.integers(0, 10_000),
    st.integers(1, 1_000),
    st.integers(0, (1 << 32) - 1),
)
def test_backoff_stays_within_its_jitter(
    initial_ms: int, factor: int, max_ms: int, jitter: int, tries: int, random: int
) -> None:
    exact = backoff_ms(Backoff(initial_ms, factor, max_ms, 0), tries, random)
    assert 0 <= exact <= max_ms
    spread = exact * jitter // 10_000
    assert exact - spread <= backoff_ms(Backoff(initial_ms, factor, max_ms, jitter), tries, random) <= exact + spread


def test_backoff_grows_to_its_maximum() -> None:
    backoff = Backoff(1_000, 20_000, 60_000, 0)
    assert [backoff_ms(backoff, tries, 0) for tries in range(1, 9)] == [
        *(1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000)
    ]
    jittered = Backoff(1_000, 20_000, 60_000, 2_000)
    assert [backoff_ms(jittered, 1, random) for random in (0, 1 << 31, (1 << 32) - 1)] == [800, 1_000, 1_200]
