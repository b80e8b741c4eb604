"""Offers, assignment by hand, claims: who may be given what, and that every grant raises the attempt."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from statemachine import commands
from statemachine.commands import Capability, Offer, Requirement
from statemachine.task_grants import WHY
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1", capabilities=(Capability("python", 8_000),))
    h.submit(requires=(Requirement("python", 5_000),))
    return h


def unknown(h: Harness) -> None:
    h.item(commands.DeleteAgent("a1"))


def liveness(status: str) -> Callable[[Harness], None]:
    def set_it(h: Harness) -> None:
        believed = commands.AgentBelieved("a1", h.agent("a1").epoch, "online")
        h.item(commands.SetAgentLiveness((believed,), status))

    return set_it


def draining(h: Harness) -> None:
    h.item(commands.DrainAgent("a1", True))


def project(h: Harness) -> None:
    h.item(commands.CreateProject(), project="other")
    h.register("a1", projects=("other",), capabilities=(Capability("python"),))


def capability(h: Harness) -> None:
    h.register("a1", capabilities=(Capability("python", 4_999), Capability("go")))


def no_slot(h: Harness) -> None:
    h.submit("busy")
    h.offer("busy")


def budget(h: Harness) -> None:
    h.item(commands.PutBudget("agent", "a1", max_tokens=0))


HINDRANCES: dict[str, Callable[[Harness], None]] = {
    "unknown": unknown,
    "offline": liveness("offline"),
    "unresponsive": liveness("unresponsive"),
    "draining": draining,
    "project": project,
    "capability": capability,
    "no_slot": no_slot,
    "budget": budget,
}
SIGN_OF_LIFE = {"offline", "unresponsive"}


def test_every_hindrance_has_its_sentence() -> None:
    assert HINDRANCES.keys() == WHY.keys()


@pytest.mark.parametrize("why", HINDRANCES)
def test_assign_says_why_not(h: Harness, why: str) -> None:
    HINDRANCES[why](h)
    refusal = h.refusal(commands.AssignTask("t1", "a1"))
    assert refusal.code == "agent_unavailable"
    assert refusal.current == {"why": why, "status": "pending", "attempt": 0, "agent_id": None, "granted_at": None}


@pytest.mark.parametrize("why", HINDRANCES)
def test_offers_are_checked_again(h: Harness, why: str) -> None:
    epoch = h.agent("a1").epoch
    HINDRANCES[why](h)
    if why not in ("unknown",):
        epoch = h.agent("a1").epoch
    content = h.content()
    item = h.item(commands.OfferTasks((Offer("t1", "default", 0, "a1", epoch),)))
    assert (item.status, item.numbers) == (0, ())
    assert h.content() == content


@pytest.mark.parametrize("why", sorted(HINDRANCES.keys() - {"unknown"}))
@pytest.mark.parametrize("named", [False, True])
def test_claims(h: Harness, why: str, named: bool) -> None:
    HINDRANCES[why](h)
    claim = commands.ClaimTasks("a1", h.agent("a1").epoch, ("t1",), named=named)
    if why in SIGN_OF_LIFE:
        assert h.item(claim).numbers == (1,)
    elif named:
        refusal = h.refusal(claim)
        assert (refusal.code, refusal.current and refusal.current["why"]) == ("agent_unavailable", why)
    else:
        assert h.item(claim).status == 0
    h.check()


@pytest.mark.parametrize(
    "offer",
    [
        lambda epoch: Offer("t1", "default", 1, "a1", epoch),
        lambda epoch: Offer("t1", "default", 0, "a1", epoch + 1),
        lambda epoch: Offer("t1", "nowhere", 0, "a1", epoch),
        lambda epoch: Offer("t2", "default", 0, "a1", epoch),
    ],
)
def test_offers_that_no_longer_hold_are_passed_over(h: Harness, offer: Callable[[int], Offer]) -> None:
    content = h.content()
    assert h.item(commands.OfferTasks((offer(h.agent("a1").epoch),))).status == 0
    assert h.content() == content


def test_assign_by_hand(h: Harness) -> None:
    item = h.item(commands.AssignTask("t1", "a1", 9_000))
    task = h.task("t1")
    assert (item.numbers, task.status, task.agent_id, task.grant_ms) == ((1,), "assigned", "a1", 9_000)
    assert (task.granted_at, task.agent_epoch, task.tries) == (h.time_ms, h.agent("a1").epoch, 0)
    refusal = h.refusal(commands.AssignTask("t1", "a1"))
    assert refusal.code == "conflict"
    assert h.refusal(commands.AssignTask("nope", "a1")).code == "not_found"


def test_claim_takes_what_fits(h: Harness) -> None:
    h.register("a2", slots=2)
    for name in ("x", "y", "z"):
        h.submit(name)
    epoch = h.agent("a2").epoch
    outcome = h.do(commands.ClaimTasks("a2", epoch, ("x", "gone", "y", "z"), lease_ms=5_000))
    assert [(item.status, item.numbers) for item in outcome.items] == [(200, (1,)), (0, ()), (200, (1,)), (0, ())]
    assert [item.refusal for item in outcome.items] == [None] * 4
    assert (h.task("x").grant_ms, h.task("x").tries) == (5_000, 1)
    h.check()


def test_claim_by_an_unknown_agent_or_old_epoch(h: Harness) -> None:
    assert h.refusal(commands.ClaimTasks("ghost", 1, ("t1",))).code == "not_found"
    old = h.agent("a1").epoch
    new = h.register("a1", capabilities=(Capability("python"),))
    refusal = h.refusal(commands.ClaimTasks("a1", old, ("t1",)))
    assert (refusal.code, refusal.current) == ("stale_epoch", {"epoch": new})


def test_late_work_comes_back_by_a_named_claim(h: Harness) -> None:
    first = h.claim()
    h.do(commands.ExpireLeases((h.believed(),), (0,)))
    assert h.task("t1").status == "scheduled"
    assert h.complete("t1", "a1", first).items[0].refusal is not None
    second = h.claim()
    assert second == first + 1
    assert h.complete("t1", "a1", second).items[0].refusal is None
    h.check()


def test_a_task_that_waits_for_its_time_is_not_claimed(h: Harness) -> None:
    h.submit("later", delay_ms=1_000)
    refusal = h.refusal(commands.ClaimTasks("a1", h.agent("a1").epoch, ("later",), named=True))
    assert refusal.code == "conflict"
    assert h.item(commands.ClaimTasks("a1", h.agent("a1").epoch, ("later",))).status == 0


def test_a_named_claim_of_the_unknown(h: Harness) -> None:
    assert h.refusal(commands.ClaimTasks("a1", h.agent("a1").epoch, ("no",), named=True)).code == "not_found"


def test_the_attempt_grows_with_every_grant(h: Harness) -> None:
    seen = []
    for _ in range(3):
        seen.append(h.offer())
        h.do(commands.WithdrawOffers((h.believed(),)))
        seen.append(h.claim())
        h.release("t1", "a1", seen[-1])
    assert seen == [1, 2, 3, 4, 5, 6]
    assert h.task("t1").tries == 0


def test_slots_count_over_all_projects(h: Harness) -> None:
    h.claim()
    h.item(commands.SubmitTasks((commands.NewTask("far"),)), project="other")
    epoch = h.agent("a1").epoch
    assert h.item(commands.ClaimTasks("a1", epoch, ("far",)), project="other").status == 0
    h.complete("t1", "a1", 1)
    assert h.item(commands.ClaimTasks("a1", epoch, ("far",)), project="other").status == 200
    h.check()


def test_a_claim_in_an_unknown_project(h: Harness) -> None:
    claim = commands.ClaimTasks("a1", h.agent("a1").epoch, ("t1",))
    assert h.refusal(claim, project="nowhere").code == "unknown_project"


def test_a_grant_writes_only_what_changes(h: Harness) -> None:
    h.submit("t2", unique_key="k", deadline_in_ms=9_000, expires_unstarted_ms=9_000, priority=9)
    h.item(commands.AssignTask("t2", "a1"))
    assert h.applied is not None
    assert sorted(key[:1] for key, _ in h.applied.writes if key[:1] not in b"MPCn") == [b"H", b"L", b"Q", b"T", b"q"]
