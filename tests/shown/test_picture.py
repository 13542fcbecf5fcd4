"""What a drawing shows: each job while they are few, and of what is alike the first and how many more."""

from __future__ import annotations

from collections import defaultdict
from unittest.mock import patch

import pytest
from graphs import node, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import alike, different, row, wide

from celery_flows.errors import PlanTooLarge
from celery_flows.plan import Edge, Node, Plan
from celery_flows.shown.picture import Picture, picture
from celery_flows.states import Condition, JobState, Kind


def texts(found: Picture) -> list[str]:
    """What stands in the boxes."""
    return [" ".join(box.lines) for box in found.boxes.values()]


def test_few_are_drawn_each() -> None:
    """As long as one can look at them."""
    found = picture(wide(5))
    assert (len(found.boxes), len(found.arrows)) == (7, 10)


def test_many_are_folded() -> None:
    """The first two, then a box for the rest, which stands between the same two others."""
    found = picture(wide(5_000))
    assert texts(found) == [
        "first shop.score",
        "shop.score",
        "shop.score",
        "and 4,998 more like it",
        "last shop.score",
    ]
    [rest] = [box for box in found.boxes.values() if box.is_many]
    assert [(arrow.before, arrow.after) for arrow in found.arrows if rest.id in arrow] == [
        ("first", rest.id),
        (rest.id, "last"),
    ]


def test_what_needs_a_person_is_not_folded() -> None:
    """A job that failed, or runs, is drawn, wherever it stands; of the others it is told how many there are."""
    plan = wide(100)
    states = dict.fromkeys(plan.nodes, JobState.COMPLETE) | {"n70": JobState.FAILED, "n90": JobState.RUNNING}
    found = picture(plan, states)
    assert [(box.id, box.state) for box in found.boxes.values()][1:3] == [
        ("n70", JobState.FAILED),
        ("n90", JobState.RUNNING),
    ]
    assert found.boxes["n0"].standing == "98 complete"
    assert found.boxes["n0"].is_many


def test_parts_are_folded_with_all_that_is_in_them() -> None:
    """Blocks that are alike, with blocks in them, are one box."""
    parts = [f"first>a{n} a{n}>b{n} a{n}>c{n} b{n}>d{n} c{n}>d{n} d{n}>last" for n in range(10)]
    plan = plan_of(" ".join(parts))
    found = picture(alike(plan, *(one for one in plan.nodes if one not in ("first", "last"))))
    assert len(found.boxes) == 2 + 2 * 4 + 1
    [rest] = [box for box in found.boxes.values() if box.is_many]
    assert rest.lines == ("and 8 more like it",)


def test_what_goes_elsewhere_is_not_alike() -> None:
    """Jobs that are followed by different ones are not taken for one another."""
    edges = [f"n{one}>{'even' if one % 2 == 0 else 'odd'}" for one in range(20)]
    plan = plan_of(" ".join(edges))
    found = picture(alike(plan, *(f"n{one}" for one in range(20))))
    assert [box.lines for box in found.boxes.values() if box.is_many] == [("and 8 more like it",)] * 2


def test_a_long_row_is_folded() -> None:
    """Its ends are drawn, where nothing else stands beside it and all of it goes on in the same case."""
    plan = row(3_000)
    assert texts(picture(plan)) == ["shop.score", "shop.score", "and 2,997 more in a row", "shop.score"]
    plan.edges[1_500] = Edge("n1500", "n1501", Condition.FAILURE)
    assert len(picture(plan).boxes) == 8


def test_names_are_folded_where_there_are_too_many() -> None:
    """What calls the same is then alike, under whatever name, also in a row."""
    assert len(picture(wide(200, named=True)).boxes) == 202
    assert texts(picture(wide(400, named=True))) == ["first shop.score", "400 times shop.score", "last shop.score"]
    assert texts(picture(row(700, named=True)))[2] == "and 697 more in a row"


def test_what_can_not_be_drawn_is_refused() -> None:
    """It says what to do instead."""
    with pytest.raises(PlanTooLarge, match=r"700 jobs can't be drawn.* --format tree"):
        picture(different(700))


def test_conditions_are_said_of_what_waits() -> None:
    """But not the ordinary one."""
    assert picture(plan_of("a>b a!c a~d b~d b>e a~e")).conditions() == {
        "c": "failure",
        "d": "settled",
        "e": "complete or settled",
    }


def test_joins_and_flows_are_told_from_jobs() -> None:
    """By their kind; a join has nothing in it."""
    plan = plan_of("a>join b>join join>c join>d")
    plan.add(node("inner"))
    assert (picture(plan).boxes["join"].kind, picture(plan).boxes["join"].lines) == (Kind.JOIN, ())


@settings(max_examples=60, deadline=None)
@given(
    edges=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=120),
    tasks=st.lists(st.integers(0, 2), min_size=60, max_size=60),
    few=st.sampled_from([0, 250]),
)
def test_no_fold_makes_a_circle_or_loses_a_job(edges: list[tuple[int, int]], tasks: list[int], few: int) -> None:
    """Whatever the plan, each job is in one box, and arrows between boxes are those between their jobs."""
    plan = Plan()
    for number, task in enumerate(tasks):
        plan.add(Node(f"{number:02}", Kind.TASK, f"shop.{task}"))
    plan.edges = [Edge(*pair) for pair in dict.fromkeys((f"{at:02}", f"{at + by:02}") for at, by in edges)]
    states = dict.fromkeys(plan.nodes, JobState.READY)
    with patch("celery_flows.shown.picture._FEW", few):
        found = picture(plan, states)
    assert sum(sum(box.states.values()) for box in found.boxes.values()) == len(plan.nodes)
    after: dict[str, set[str]] = defaultdict(set)
    for arrow in found.arrows:
        after[arrow.before].add(arrow.after)
    left = set(found.boxes)
    while ends := {one for one in left if not after[one] & left}:
        left -= ends
    assert not left, "boxes wait for one another in a circle"
