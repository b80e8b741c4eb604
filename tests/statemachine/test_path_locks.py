"""Locks on paths: with the grant or not at all, for as long as the task may be worked on, and no longer."""

from __future__ import annotations

import pytest

from statemachine import commands, globs, limits, machine, path_locks, queue_limits
from statemachine.commands import Believed, NewTask, Park, PathLock, Resumption, SubmitTasks
from statemachine.outcome import Refusal
from statemachine.store import MemoryStore
from statemachine.task_states import TaskState
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    harness = Harness()
    harness.do(commands.CreateProject())
    harness.register("a1", slots=20)
    return harness


def lock(*paths: str, exclusive: bool = True) -> tuple[PathLock, ...]:
    return tuple(PathLock(path, exclusive) for path in paths)


def submit(h: Harness, task_id: str, *paths: str, exclusive: bool = True, **fields: object) -> None:
    h.submit(task_id, locks=lock(*paths, exclusive=exclusive), **fields)


def refused(h: Harness, task_id: str) -> Refusal:
    """The refusal of a claim by name."""
    return h.refusal(commands.ClaimTasks("a1", h.agent("a1").epoch, (task_id,), named=True))


def free(h: Harness, task_id: str) -> bool:
    """Whether nothing keeps the task."""
    return queue_limits.first_hindrance(h.store, h.task(task_id), h.time_ms) is None


def park(h: Harness, task_id: str, attempt: int, *, on_timeout: str = "resume", timeout_ms: int | None = None) -> None:
    wait = Park(task_id, attempt, "approval", "plan", timeout_ms=timeout_ms, on_timeout=on_timeout)
    assert h.do(commands.ParkTasks("a1", (wait,))).items[0].refusal is None


def test_all_or_none(h: Harness) -> None:
    submit(h, "t1", "src/a.py", "docs/**")
    submit(h, "t2", "src/b.py", "docs/guide.md")
    submit(h, "t3", "src/b.py")
    h.claim("t1")
    refusal = refused(h, "t2")
    assert refusal.code == "lock_held"
    assert refusal.current is not None
    assert refusal.current["why"] == "lock_held"
    assert refusal.current["path"] == "docs/guide.md"
    assert refusal.current["holders"] == [{"task_id": "t1", "path": "docs/**", "exclusive": True, "agent_id": "a1"}]
    assert "task t1, with agent a1, holds exclusive 'docs/**'" in refusal.detail
    h.claim("t3")
    h.check()


def test_shared_locks_go_together(h: Harness) -> None:
    for number in range(3):
        submit(h, f"r{number}", "src/**", exclusive=False)
    submit(h, "w", "src/a.py")
    attempts = {f"r{number}": h.claim(f"r{number}") for number in range(3)}
    assert [one["task_id"] for one in (refused(h, "w").current or {})["holders"]] == ["r0", "r1", "r2"]
    for task_id, attempt in attempts.items():
        assert not free(h, "w")
        h.complete(task_id, "a1", attempt)
    h.claim("w")
    submit(h, "r", "src/**", exclusive=False)
    assert refused(h, "r").code == "lock_held"
    h.check()


def test_two_in_one_entry_and_by_hand(h: Harness) -> None:
    """What a leader did not know when it decided is looked at again."""
    submit(h, "t1", "src/*")
    submit(h, "t2", "src/[ab].py")
    epoch = h.agent("a1").epoch
    offers = tuple(commands.Offer(f"t{n}", "default", 0, "a1", epoch) for n in (1, 2))
    assert [item.status for item in h.do(commands.OfferTasks(offers)).items] == [200, 0]
    refusal = h.refusal(commands.AssignTask("t2", "a1"))
    assert refusal.code == "lock_held"
    claimed = h.do(commands.ClaimTasks("a1", epoch, ("t2",)))
    assert [item.status for item in claimed.items] == [0]
    h.check()


@pytest.mark.parametrize("way", ["complete", "fail", "release", "lose", "withdraw", "delete_agent", "run_timeout"])
def test_whatever_ends_the_attempt_lets_go(h: Harness, way: str) -> None:
    submit(h, "t1", "src/**", run_timeout_ms=1_000)
    submit(h, "t2", "src/a.py")
    attempt = h.offer("t1") if way == "withdraw" else h.claim("t1")
    assert not free(h, "t2")
    believed: tuple[Believed, ...] = (h.believed("t1"),)
    if way == "complete":
        h.complete("t1", "a1", attempt)
    elif way == "fail":
        h.fail("t1", "a1", attempt)
    elif way == "release":
        h.release("t1", "a1", attempt)
    elif way == "lose":
        h.do(commands.ExpireLeases(believed, (1,)))
    elif way == "withdraw":
        h.do(commands.WithdrawOffers(believed))
    elif way == "run_timeout":
        h.advance(1_000)
        h.do(commands.ExpireRuns(believed, (1,)))
    else:
        h.do(commands.DeleteAgent("a1"))
    assert free(h, "t2")
    assert path_locks.held_count(h.store, h.project_no()) == 0
    h.check()


def test_a_cancelled_task_keeps_them_until_its_agent_confirms(h: Harness) -> None:
    submit(h, "t1", "src/**")
    submit(h, "t2", "src/a.py")
    attempt = h.claim("t1")
    h.do(commands.CancelTask("t1"))
    assert refused(h, "t2").code == "lock_held"
    h.release("t1", "a1", attempt)
    assert free(h, "t2")
    h.check()


def test_they_are_kept_while_it_waits_and_until_it_lets_go(h: Harness) -> None:
    submit(h, "t1", "src/**")
    submit(h, "t2", "src/a.py")
    park(h, "t1", h.claim("t1"))
    assert h.task("t1").status is TaskState.WAITING
    assert (refused(h, "t2").current or {})["holders"][0]["agent_id"] is None
    h.do(commands.ResumeTasks((Resumption("t1", "plan"),)))
    assert free(h, "t1"), "nobody is in the way of what it has"
    assert refused(h, "t2").code == "lock_held"
    h.offer("t1")
    h.do(commands.WithdrawOffers((h.believed("t1"),)))
    assert refused(h, "t2").code == "lock_held", "it was not started again"
    h.check()
    attempt = h.claim("t1")
    h.release("t1", "a1", attempt)
    assert free(h, "t2"), "its agent gave the task back whole"
    h.check()


@pytest.mark.parametrize("on_timeout", ["fail", "cancel"])
def test_a_wait_that_ends_the_task_lets_go(h: Harness, on_timeout: str) -> None:
    submit(h, "t1", "src/**")
    submit(h, "t2", "src/a.py")
    park(h, "t1", h.claim("t1"), on_timeout=on_timeout, timeout_ms=500)
    h.advance(500)
    h.do(commands.EndWaits((h.believed("t1"),)))
    h.claim("t2")
    h.check()
    if on_timeout == "fail":
        h.item(commands.RetryTask("t1"))
        h.check()
        assert refused(h, "t1").code == "lock_held", "what begins anew kept nothing"


def test_a_resumed_task_that_is_put_off_keeps_them(h: Harness) -> None:
    """It may have half-done work on those paths, and was let in already: it needs no place in a line again."""
    submit(h, "t1", "src/**")
    submit(h, "t2", "src/a.py")
    park(h, "t1", h.claim("t1"))
    h.do(commands.ResumeTasks((Resumption("t1", "plan"),)))
    h.do(commands.UpdateTask("t1", ("not_before",), not_before=h.time_ms + 1_000))
    assert h.task("t1").status is TaskState.SCHEDULED
    assert refused(h, "t2").code == "lock_held"
    h.check()
    h.do(commands.CancelTask("t1"))
    assert free(h, "t2")
    h.check()


def test_projects_have_their_own(h: Harness) -> None:
    h.do(commands.CreateProject(), project="other")
    submit(h, "t1", "**")
    h.claim("t1")
    new = NewTask("t1", locks=lock("**"))
    h.item(SubmitTasks((new,)), project="other")
    epoch = h.agent("a1").epoch
    assert h.item(commands.ClaimTasks("a1", epoch, ("t1",), named=True), project="other").numbers == (1,)
    h.check()


def test_so_many_may_be_held(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCKS_HELD_MAX", 2)
    submit(h, "t1", "a", "b")
    submit(h, "t2", "c")
    attempt = h.claim("t1")
    refusal = refused(h, "t2")
    assert refusal.code == "lock_held"
    assert "at most 2 may be" in refusal.detail
    h.complete("t1", "a1", attempt)
    h.claim("t2")
    h.check()


def test_so_many_are_compared(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCK_COMPARISONS_MAX", 2)
    for number in range(3):
        submit(h, f"t{number}", f"src/{number}.py")
        h.claim(f"t{number}")
    submit(h, "wide", "**/*.md")
    submit(h, "narrow", "docs/*.md")
    refusal = refused(h, "wide")
    assert "too many locks are held" in refusal.detail
    assert (refusal.current or {})["holders"] == []
    h.claim("narrow")


SLOW = "**/" + "/".join(["*abbbbb"] * 15)
"""One of the patterns that take the longest to be compared with others like it."""


def test_patterns_that_are_slow_to_compare_count_for_more(h: Harness) -> None:
    """A grant is compared with what is held for some milliseconds, whatever users lock."""
    held = [lock(f"{SLOW}{number}", exclusive=False)[0] for number in range(200)]
    rows = {
        key: value for holder, one in enumerate(held, 1) for key, value in path_locks.rows(1, holder, (one,)).items()
    }
    store = MemoryStore()
    store.apply(list(rows.items()))
    meter = path_locks.Meter()
    found = list(path_locks.conflicts(store, 1, 0, lock(f"{SLOW}c"), meter=meter))
    assert [(conflict.asked, conflict.holder_no) for conflict in found] == [(0, 0)]
    pattern = globs.parse(f"{SLOW}c")
    assert meter.steps < limits.LOCK_COMPARISONS_MAX + globs.steps(pattern, pattern)
    plain = list(path_locks.conflicts(store, 1, 0, lock("src/a.py", "docs/*.md"), meter=path_locks.Meter()))
    assert plain == [], "what is quickly compared is compared with all of them"


def test_only_what_is_near_is_looked_at(h: Harness) -> None:
    """However many locks are held elsewhere."""

    class Counting:
        rows = 0

        def get(self, key: bytes) -> bytes | None:
            return h.store.get(key)

        def scan(self, start: bytes, end: bytes, *, reverse: bool = False):  # type: ignore[no-untyped-def]  # as its store
            for row in h.store.scan(start, end, reverse=reverse):
                self.rows += 1
                yield row

    for number in range(15):
        submit(h, f"t{number}", f"src/{number}/*.py", f"docs/{number}.md")
        h.claim(f"t{number}")
    submit(h, "new", "src/x/*.py", "docs/3.txt", "docs/30/**")
    reader = Counting()
    assert list(path_locks.conflicts(reader, h.project_no(), 1, h.task("new").locks)) == []
    assert reader.rows == 0
    assert len(list(path_locks.conflicts(reader, h.project_no(), 1, lock("src/3/a.py", "docs/*")))) == 11
    assert reader.rows <= 20


@pytest.mark.parametrize(
    ("locks", "path"),
    [(lock("ok", "/no"), "locks[1].path"), (lock(*["x"] * 33), "locks"), (lock("a" * 300), "locks[0].path")],
)
def test_bad_locks_are_refused(h: Harness, locks: tuple[PathLock, ...], path: str) -> None:
    refusal = h.refusal(SubmitTasks((NewTask("t1", locks=locks),)))
    assert refusal.code == "invalid_request"
    assert (refusal.current or {})["errors"][0]["path"] == f"items[0].{path}"


def test_the_same_task_again_and_other_locks(h: Harness) -> None:
    submit(h, "t1", "src/**")
    submit(h, "t1", "src/**")
    assert h.refusal(SubmitTasks((NewTask("t1", locks=lock("src/*")),))).code == "exists"
    assert h.refusal(SubmitTasks((NewTask("t1"),))).code == "exists"


def test_the_digest_of_a_task_without_locks_is_what_it_always_was(h: Harness) -> None:
    """A repeat from before an upgrade must not look like other content."""
    h.submit("t1", queue="q", payload=b"{}")
    assert h.task("t1").digest.hex() == DIGEST


DIGEST = "071206382a5279be15ec5c874dc08d76"


def test_a_grant_tells_nothing_to_the_feed_beside_the_task(h: Harness) -> None:
    submit(h, "t1", "src/**")
    h.claim("t1")
    assert [change.type for change in h.changes] == ["task.started"]
    assert machine.read_meta(h.store).internal_errors == 0
