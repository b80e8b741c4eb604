"""What attempts teach about agents: the rates themselves, which ends of attempts count, and how it is forgotten."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import agent_record, commands, limits, proficiency
from statemachine.agent_record import Load
from statemachine.audit import audit
from statemachine.commands import Completion, Failure, Requirement
from statemachine.proficiency import PRIOR, Rate
from statemachine.task_record import Task
from tests.statemachine.harness import Harness

OUTCOMES = st.lists(st.booleans(), max_size=80)


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1", slots=9)
    return h


def load(h: Harness, agent_id: str = "a1") -> Load:
    return agent_record.load_of(h.store, h.agent(agent_id).number)


def learned(h: Harness) -> dict[str, tuple[int, int]]:
    return {rate.name: (rate.rate, rate.attempts) for rate in proficiency.read(load(h).learned)}


def fail(h: Harness, task_id: str, reason: str) -> None:
    failure = Failure(task_id, h.claim(task_id), reason, "", False, None, 0)
    h.do(commands.FailTasks("a1", (failure,)))


# --- rates ------------------------------------------------------------------------------------------------------------


@given(OUTCOMES)
def test_a_rate_follows_the_exact_average_and_stays_within_bounds(outcomes: list[bool]) -> None:
    rate, exact = PRIOR, Fraction(PRIOR)
    for succeeded in outcomes:
        rate = proficiency.moved(rate, succeeded=succeeded)
        exact += (10_000 * succeeded - exact) / 8
        assert 0 <= rate <= 10_000
        # Each step rounds by less than one, and an eighth of what was off is gone with each.
        assert abs(rate - exact) < 8


@given(st.integers(0, 10_000))
def test_success_never_lowers_and_failure_never_raises(rate: int) -> None:
    up, down = proficiency.moved(rate, succeeded=True), proficiency.moved(rate, succeeded=False)
    assert up > rate or up == rate == 10_000
    assert down < rate or down == rate == 0


@given(st.lists(st.integers(0, limits.USAGE_MAX), max_size=40))
def test_a_cost_stays_between_the_least_and_the_greatest_that_was_told(costs: list[int]) -> None:
    cost = None
    for latest in costs:
        cost = proficiency.moved_cost(cost, latest)
    told = [latest for latest in costs if latest]
    assert cost is None if not told else cost is not None and min(told) <= cost <= max(told)


@given(st.lists(st.tuples(st.lists(st.integers(0, 50), max_size=3), st.booleans()), max_size=60))
def test_the_names_used_last_are_kept(ends: list[tuple[list[int], bool]]) -> None:
    """Against a model that keeps every name in order of use."""
    data, model = b"", dict[str, tuple[int, int]]()
    for numbers, succeeded in ends:
        needs = tuple(Requirement(f"n{number}") for number in numbers)
        data = proficiency.taught(data, task(needs), succeeded=succeeded)
        for name in dict.fromkeys(need.name for need in needs) or ["kind"]:
            rate, attempts = model.pop(name, (PRIOR, 0))
            model[name] = proficiency.moved(rate, succeeded=succeeded), attempts + 1
        for name in list(model)[: -limits.LEARNED_MAX]:
            del model[name]
        assert proficiency.read(data) == [Rate(name, *figures) for name, figures in model.items()]


def task(needs: tuple[Requirement, ...]) -> Task:
    h = Harness()
    h.submit("t", requires=needs, type="kind")
    return h.task("t")


# --- which ends count -------------------------------------------------------------------------------------------------


def test_completed_and_failed_attempts_count_under_what_the_task_requires_or_its_type(h: Harness) -> None:
    h.register("a1", slots=9, instance="i", capabilities=(commands.Capability("py"), commands.Capability("go")))
    h.submit("t1", requires=(Requirement("py"), Requirement("go")))
    h.submit("t2", requires=(Requirement("py"),))
    h.submit("t3", type="report")
    h.run("t1")
    fail(h, "t2", "error")
    h.run("t3")
    assert learned(h) == {"go": (10_000, 1), "py": (8_750, 2), "report": (10_000, 1)}
    assert (load(h).success, load(h).attempts, load(h).completed, load(h).failed) == (8_907, 3, 2, 1)
    h.check()


def test_a_lost_lease_and_a_timeout_count(h: Harness) -> None:
    h.submit("t1")
    h.claim("t1")
    h.do(commands.ExpireLeases((h.believed("t1"),), (0,)))
    h.submit("t2", run_timeout_ms=1_000)
    h.claim("t2")
    h.advance(1_000)
    h.do(commands.ExpireRuns((h.believed("t2"),), (0,)))
    assert learned(h) == {"task": (7_656, 2)}
    h.check()


@pytest.mark.parametrize("reason", ["rejected", "rate_limited"])
def test_a_failure_that_says_nothing_of_the_agent_teaches_nothing(h: Harness, reason: str) -> None:
    h.submit("t1")
    fail(h, "t1", reason)
    assert (learned(h), load(h).attempts, load(h).failed) == ({}, 0, 1)
    h.check()


def test_what_was_not_the_agents_decision_teaches_nothing(h: Harness) -> None:
    for number, end in enumerate(("release", "cancel", "register", "lapse", "park")):
        h.submit(name := f"t{number}")
        attempt = h.claim(name) if end != "lapse" else h.offer(name)
        if end == "release":
            h.release(name, "a1", attempt)
        elif end == "cancel":
            h.do(commands.CancelTask(name))
            h.release(name, "a1", attempt)
        elif end == "register":
            h.register("a1", slots=9)
        elif end == "lapse":
            h.do(commands.WithdrawOffers((h.believed(name),)))
        else:
            h.do(commands.ParkTasks("a1", (commands.Park(name, attempt, "event", "e"),)))
    assert (learned(h), load(h).attempts) == ({}, 0)
    h.check()


def test_the_cost_of_an_attempt_is_that_of_its_own_report(h: Harness) -> None:
    h.submit("t1", backoff=commands.Backoff(initial_ms=0))
    usage = (1, 1, 800)
    h.do(commands.FailTasks("a1", (Failure("t1", h.claim("t1"), "error", "", True, usage, 0),)))
    assert load(h).cost_micro == 800
    h.do(commands.CompleteTasks("a1", (Completion("t1", h.claim("t1"), usage=(1, 1, 1_600)),)))
    assert h.task("t1").usage == (2, 2, 2_400)
    assert load(h).cost_micro == 900
    h.submit("t2")
    h.run("t2")
    assert load(h).cost_micro == 900, "an attempt that told nothing says nothing"


def test_a_new_epoch_keeps_what_was_learned_and_another_agent_begins_anew(h: Harness) -> None:
    h.submit("t1")
    fail(h, "t1", "error")
    h.register("a1", slots=9)
    assert learned(h) == {"task": (8_750, 1)}
    h.do(commands.DeleteAgent("a1"))
    h.register("a1")
    assert learned(h) == {}
    h.check()


# --- forgetting -------------------------------------------------------------------------------------------------------


def test_a_reset_of_names_or_of_everything(h: Harness) -> None:
    for kind in ("x", "y"):
        h.submit(kind, type=kind)
        fail(h, kind, "error")
    before = h.agent("a1").revision
    h.item(commands.ResetLearned("a1", ("x", "never")))
    assert h.changes[0].type == "agent.learned_reset"
    assert (h.agent("a1").revision > before, learned(h), load(h).attempts) == (True, {"y": (8_750, 1)}, 2)
    h.item(commands.ResetLearned("a1"))
    assert (learned(h), load(h).success, load(h).attempts, load(h).failed) == ({}, PRIOR, 0, 2)
    h.check()
    revision = h.agent("a1").revision
    assert h.item(commands.ResetLearned("a1")).revision == revision, "nothing to forget: nothing changes"
    assert h.changes == ()
    assert h.refusal(commands.ResetLearned("nobody")).code == "not_found"


@pytest.mark.parametrize(
    "changed",
    [
        {"success": 10_001},
        {"attempts": 3},
        {"cost_micro": -1},
        {"learned": msgspec.msgpack.encode({"x": 1 << 14 | 10_001})},
        {"learned": msgspec.msgpack.encode({"x": 10_000})},
        {"learned": msgspec.msgpack.encode({f"n{n}": 1 << 14 for n in range(limits.LEARNED_MAX + 1)})},
    ],
)
def test_impossible_figures_are_found(h: Harness, changed: dict[str, object]) -> None:
    h.submit("t1")
    h.run("t1")
    wrong = msgspec.structs.replace(load(h), **changed)
    h.store.apply([(b"L" + h.agent("a1").number.to_bytes(8, "big"), msgspec.msgpack.encode(wrong))])
    assert audit(h.store) != []


def test_a_record_of_before_is_read(h: Harness) -> None:
    key = b"L" + h.agent("a1").number.to_bytes(8, "big")
    h.store.apply([(key, msgspec.msgpack.encode([0, 3, 1, False]))])
    assert load(h) == Load(completed=3, failed=1)
    h.check()


# --- labels, and who is avoided ---------------------------------------------------------------------------------------


def test_a_label_is_a_capability_unless_one_is_given(h: Harness) -> None:
    names = ("gpu=a100", "zone=eu")
    h.register("a1", slots=9, label_names=names, capabilities=(commands.Capability("zone=eu", 4_000),))
    h.submit("t1", requires=(Requirement("gpu=a100", 10_000),))
    h.submit("t2", requires=(Requirement("gpu=h100"),))
    h.submit("t3", requires=(Requirement("zone=eu", 5_000),))
    assert h.claim("t1") == 1
    for name in ("t2", "t3"):
        command = commands.ClaimTasks("a1", h.agent("a1").epoch, (name,), named=True)
        assert (h.refusal(command).current or {})["why"] == "capability"


def test_the_next_attempt_avoids_who_failed(h: Harness) -> None:
    h.submit("t1")
    h.fail("t1", "a1", h.claim("t1"))
    h.advance(10_000)
    h.do(commands.WakeTasks())
    assert h.task("t1").avoid_agent_id == "a1"
    h.claim("t1")
    assert h.task("t1").avoid_agent_id is None
