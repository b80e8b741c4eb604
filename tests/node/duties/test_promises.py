"""What promises take of an agent's room, against counting anew each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.duties.holdings import Holding, Holdings, TaskKey
from node.duties.promises import Promises

AGENTS = ("a", "b")
KEYS: list[TaskKey] = [("p", "t0"), ("p", "t1"), ("q", "t0")]
STEPS = st.tuples(st.sampled_from(["give", "end", "hold", "let go"]), st.sampled_from(AGENTS), st.sampled_from(KEYS))


@given(st.lists(STEPS, max_size=40))
def test_slots_are_promises_that_are_not_held(steps: list[tuple[str, str, TaskKey]]) -> None:
    holdings = Holdings()
    promises = Promises(holdings)
    promised: set[tuple[str, TaskKey]] = set()
    holder: dict[TaskKey, str] = {}
    for what, agent_id, key in steps:
        if what == "give":
            promises.give(agent_id, key)
            promised.add((agent_id, key))
        elif what == "end":
            frees = (agent_id, key) in promised and holder.get(key) != agent_id
            assert promises.end(agent_id, key) is frees
            promised.discard((agent_id, key))
        elif what == "hold":
            holdings.put(Holding(key, agent_id, 1, "running", term_s=1.0, deadline_s=1.0))
            holder[key] = agent_id
        else:
            holdings.drop(key)
            holder.pop(key, None)
        for one in AGENTS:
            open_ones = [key for name, key in promised if name == one and holder.get(key) != one]
            assert promises.slots(one) == len(open_ones)
