"""A plan as boxes and arrows, with what is alike folded, so that few of them tell of many jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from celery_flows.errors import PlanTooLarge
from celery_flows.plan import Node, Plan
from celery_flows.shown.folding import Fold, fold_alike, fold_by_task
from celery_flows.shown.labels import States, label_of, name_of, numbers_of, task_of
from celery_flows.states import Condition, JobState, Kind

#: Boxes of a picture; with more, what is alike but for its names is one box.
_FEW: Final = 250

#: With more still it is no picture that one could look at.
_MOST: Final = 600


@dataclass(frozen=True)
class Box:
    """A job, or several that are alike."""

    id: str
    #: What is written in it.
    lines: tuple[str, ...]
    #: What it is called in full.
    title: str
    kind: Kind = Kind.TASK
    #: Where its job stands, if that is known; of several, where each does.
    states: dict[JobState, int] = field(default_factory=dict)
    #: Whether it stands for several.
    is_many: bool = False

    @property
    def state(self) -> JobState | None:
        """Where it stands, if that is the same of all its jobs."""
        return next(iter(self.states)) if len(self.states) == 1 else None

    @property
    def standing(self) -> str:
        """The same in words."""
        if not self.is_many:
            return str(self.state or "")
        return ", ".join(f"{number:,} {state}" for state, number in self.states.items())


class Arrow(NamedTuple):
    """One box comes after another."""

    before: str
    after: str
    condition: Condition = Condition.COMPLETE


@dataclass(frozen=True)
class Picture:
    """Boxes, and arrows between them."""

    boxes: dict[str, Box]
    arrows: list[Arrow]

    def conditions(self) -> dict[str, str]:
        """By box, the ends for which it waits, where that is not the ordinary one."""
        found: dict[str, set[str]] = defaultdict(set)
        for arrow in self.arrows:
            found[arrow.after].add(str(arrow.condition))
        return {one: " or ".join(sorted(words)) for one, words in found.items() if words != {Condition.COMPLETE}}


def picture(plan: Plan, states: States | None = None) -> Picture:
    """Draw a plan up.

    Raises:
        PlanTooLarge: too little in it is alike for a picture that one could look at.
    """
    known = states or {}
    found = _folded(plan, fold_alike(plan, known), known)
    if len(found.boxes) > _FEW:
        found = _folded(plan, fold_by_task(plan), known)
    if len(found.boxes) > _MOST:
        raise PlanTooLarge(jobs=len(plan.nodes), boxes=len(found.boxes), most=_MOST)
    return found


def _folded(plan: Plan, folds: Sequence[Fold], states: States) -> Picture:
    into = {one: fold.jobs[0] for fold in folds for one in fold.jobs}
    # What stands for the rest comes behind what it is like.
    made = {fold.jobs[-1]: fold for fold in folds}
    boxes: dict[str, Box] = {}
    for one in plan.order():
        if one in made:
            boxes[into[one]] = _box_of_many(made[one], plan, states)
        elif one not in into:
            boxes[one] = _box(plan.nodes[one], states)
    arrows = (
        Arrow(into.get(edge.job_id, edge.job_id), into.get(edge.dependent_id, edge.dependent_id), edge.condition)
        for edge in plan.edges
    )
    return Picture(boxes, list(dict.fromkeys(arrow for arrow in arrows if arrow.before != arrow.after)))


def _box(node: Node, states: States) -> Box:
    standing = {states[node.id]: 1} if node.id in states else {}
    if node.kind is Kind.JOIN:
        return Box(node.id, (), "then", node.kind, standing)
    name = name_of(node)
    lines = (task_of(node),) if name is None else (name, task_of(node))
    return Box(node.id, lines, label_of(node), node.kind, standing)


def _box_of_many(fold: Fold, plan: Plan, states: States) -> Box:
    standing = numbers_of(states[one] for one in fold.jobs if one in states)
    title = f"{fold.text}: {label_of(plan.nodes[fold.jobs[0]])}"
    return Box(fold.jobs[0], (fold.text,), title, states=standing, is_many=True)
