from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.duties.affinity import AGENTS_LOOKED_AT, DEGREE, TASKS_KEPT, Affinity, Site, sites_of

SESSION: Site = ("session", "p", "s")
BRANCH: Site = ("branch", "p", "hive", "main")
REPOSITORY: Site = ("repository", "p", "hive")


def test_where_a_task_belongs() -> None:
    labels = b'{"repository": "hive", "branch": "main", "team": 7}'
    assert sites_of("p", "s", labels) == (SESSION, BRANCH, REPOSITORY)
    assert sites_of("p", None, b'{"repository": "hive"}') == (REPOSITORY,)
    assert sites_of("p", "s", b'{"branch": "main"}') == (SESSION,), "a branch of no repository"
    assert sites_of("p", None, b'{"repository": {"name": "hive"}, "branch": 1}') == ()
    assert sites_of("p", None, b'{"x": "\\"repository\\""}') == ()
    assert sites_of("p", None, None) == ()


def test_who_worked_there_the_closest_and_latest_first() -> None:
    affinity = Affinity()
    affinity.began("a1", (REPOSITORY,))
    affinity.began("a2", (SESSION, REPOSITORY))
    affinity.began("a3", (BRANCH, REPOSITORY))
    affinity.began("a4", ())
    sites = (SESSION, BRANCH, REPOSITORY)
    assert affinity.near(sites) == ["a2", "a3", "a1"]
    assert [affinity.degree(f"a{number}", sites) for number in (1, 2, 3, 4)] == [0.5, 1.0, 0.8, 0.0]
    affinity.began("a1", (REPOSITORY,))
    assert affinity.near((REPOSITORY,)) == ["a3", "a2", "a1"], "the same again is no news"
    affinity.drop("a3")
    assert affinity.near(sites) == ["a2", "a1"]
    affinity.clear()
    assert affinity.near(sites) == []


def test_only_few_are_looked_at() -> None:
    affinity = Affinity()
    for number in range(3 * AGENTS_LOOKED_AT):
        affinity.began(f"a{number:02}", (REPOSITORY,))
    assert affinity.near((REPOSITORY,)) == [f"a{number}" for number in range(23, 15, -1)]


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 4), min_size=1, max_size=2, unique=True))))
def test_the_last_tasks_of_each_agent_are_what_is_known(works: list[tuple[int, list[int]]]) -> None:
    """Against a model that looks through the last tasks of everybody."""
    affinity, last = Affinity(), dict[str, list[tuple[Site, ...]]]()
    for who, numbers in works:
        sites = tuple(("repository", "p", f"r{number}") for number in numbers)
        tasks = last.setdefault(f"a{who}", [])
        if not tasks or tasks[-1] != sites:
            tasks.append(sites)
            del tasks[:-TASKS_KEPT]
        affinity.began(f"a{who}", sites)
        for number in range(5):
            site = ("repository", "p", f"r{number}")
            there = {agent for agent, tasks in last.items() if any(site in task for task in tasks)}
            assert set(affinity.near((site,))) == there
            for agent in last:
                assert affinity.degree(agent, (site,)) == (DEGREE["repository"] if agent in there else 0.0)
