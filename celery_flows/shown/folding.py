"""Finding in a plan what is alike, so that one box can stand for many jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Final, NamedTuple

from celery_flows.plan import Edge, Node, Plan
from celery_flows.shape import ROOT, Place, Shape
from celery_flows.shown.labels import States, label_of, task_of, urgency
from celery_flows.states import Condition

#: So many that are alike, side by side or in a row, are drawn each; of more the first, and a box for the rest.
_ALIKE: Final = 5
_FIRST: Final = 2

#: How far around a job it is looked at whether what stands there is alike.
_ROUNDS: Final = 3


class Fold(NamedTuple):
    """Jobs for which one box stands, in the order of their plan, and what is said of them."""

    jobs: list[str]
    text: str


def fold_alike(plan: Plan, states: States) -> list[Fold]:
    """Fold what is alike with all that stands under it and comes after it, and what is alike in a row.

    Args:
        states: where jobs stand: what needs a person is not folded, as long as it is not much.
    """
    shape = Shape(plan)
    after = _Elsewhere(plan, shape)
    looks = shape.looks(lambda one: "" if one == ROOT else label_of(plan.nodes[one]), after.of)
    found, waiting = list[Fold](), [shape.places[ROOT]]
    while waiting:
        place = waiting.pop()
        folds = [_rest(alike, shape, states) for alike in _groups(place, looks) if len(alike) > _ALIKE]
        hidden = {one for fold in folds for one in fold.jobs}
        waiting += [shape.places[one] for one in _below(place) if one not in hidden]
        found += folds
    return [*found, *_rows(plan, {one for fold in found for one in fold.jobs}, label_of)]


def fold_by_task(plan: Plan) -> list[Fold]:
    """Fold what calls the same, under whatever name, and has what is alike before it and after it."""
    looks = _surroundings(plan)
    groups: dict[object, list[str]] = defaultdict(list)
    for one in plan.order():
        groups[looks[one]].append(one)
    folds = [
        Fold(alike, f"{len(alike):,} times {task_of(plan.nodes[alike[0]])}")
        for alike in groups.values()
        if len(alike) > _ALIKE
    ]
    return [*folds, *_rows(plan, {one for fold in folds for one in fold.jobs}, task_of)]


class _Elsewhere:
    """What comes after a job and does not stand under it, said so that it is the same for jobs that are alike."""

    def __init__(self, plan: Plan, shape: Shape) -> None:
        self._after: dict[str, list[str]] = defaultdict(list)
        for edge in plan.edges:
            self._after[edge.job_id].append(edge.dependent_id)
        self._depth, self._above = {ROOT: 0}, dict[str, tuple[str, int]]()
        waiting = [shape.places[ROOT]]
        while waiting:
            place = waiting.pop()
            for number, one in enumerate(_below(place)):
                self._depth[one] = self._depth[place.id] + 1
                self._above[one] = place.id, number - len(place.branches)
                waiting.append(shape.places[one])

    def of(self, job_id: str) -> frozenset[tuple[int, int]]:
        """How far up each stands, and the how manieth it is there of those that wait for several."""
        places = (self._above[one] for one in self._after[job_id])
        return frozenset(
            (self._depth[job_id] - self._depth[place], number) for place, number in places if place != job_id
        )


def _below(place: Place) -> list[str]:
    return [*place.branches, *place.meetings]


def _groups(place: Place, looks: dict[str, int]) -> Collection[list[str]]:
    groups: dict[int, list[str]] = defaultdict(list)
    for one in place.branches:
        groups[looks[one]].append(one)
    return groups.values()


def _rest(alike: list[str], shape: Shape, states: States) -> Fold:
    """All but the first of what is alike; the first is what needs a person, wherever under it that is."""
    under = {one: _under(one, shape) for one in alike}
    shown = sorted(alike, key=lambda one: min(urgency(states.get(below)) for below in under[one]))[:_FIRST]
    rest = [one for one in alike if one not in shown]
    return Fold([below for one in rest for below in under[one]], f"and {len(rest):,} more like it")


def _under(job_id: str, shape: Shape) -> list[str]:
    found = [job_id]
    for one in found:
        found += _below(shape.places[one])
    return found


def _rows(plan: Plan, hidden: Collection[str], text: Callable[[Node], str]) -> Iterator[Fold]:
    """All but the ends of what is alike and comes one after another, with nothing beside it."""
    before, after = _neighbours(plan)
    seen = set(hidden)

    def next_of(one: str) -> str | None:
        edges = after[one]
        if (
            len(edges) != 1
            or edges[0].condition is not Condition.COMPLETE
            or len(before[edges[0].dependent_id]) != 1
        ):
            return None
        following = edges[0].dependent_id
        is_alike = text(plan.nodes[one]) == text(plan.nodes[following])
        return following if is_alike and following not in seen else None

    for first in plan.order():
        row, one = list[str](), None if first in seen else first
        while one is not None:
            seen.add(one)
            row.append(one)
            one = next_of(one)
        rest = row[_FIRST:-1]
        if len(row) > _ALIKE:
            yield Fold(rest, f"and {len(rest):,} more in a row")


def _surroundings(plan: Plan) -> dict[str, Hashable]:
    """What a job calls, and what stands around it, as far as one looks."""
    before, after = _neighbours(plan)
    order, ranks = plan.order(), dict[str, int]()
    for one in order:
        ranks[one] = 1 + max((ranks[edge.job_id] for edge in before[one]), default=-1)
    # With the rank in it, so that no arrows between what is folded go in a circle.
    looks: dict[str, Hashable] = {one: (task_of(plan.nodes[one]), ranks[one]) for one in order}
    for _ in range(_ROUNDS):
        around: dict[str, Hashable] = {
            one: (
                looks[one],
                frozenset((looks[edge.job_id], edge.condition) for edge in before[one]),
                frozenset((looks[edge.dependent_id], edge.condition) for edge in after[one]),
            )
            for one in order
        }
        numbers: dict[Hashable, int] = {}
        looks = {one: numbers.setdefault(look, len(numbers)) for one, look in around.items()}
    return looks


def _neighbours(plan: Plan) -> tuple[dict[str, list[Edge]], dict[str, list[Edge]]]:
    before, after = defaultdict[str, list[Edge]](list), defaultdict[str, list[Edge]](list)
    for edge in plan.edges:
        before[edge.dependent_id].append(edge)
        after[edge.job_id].append(edge)
    return before, after
