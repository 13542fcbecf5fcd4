"""A plan as a tree of lines.

What stands below another line, at its depth, comes after it; what stands side by side has a dash before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from celery_flows.plan import Plan
from celery_flows.shape import ROOT, Shape
from celery_flows.shown.labels import States, label_of, numbers_of
from celery_flows.states import Condition, Kind

#: How a state is written.
Write = Callable[[str], str]


class _Line(NamedTuple):
    indent: int
    dash: bool
    #: The jobs that it tells of: several where they, and all that stands under them, are alike.
    jobs: list[str]
    #: How many of them stand under each one of the line above.
    times: int


def tree(plan: Plan, states: States | None = None, write: Write = str) -> Iterator[str]:
    """Write a plan down, line by line.

    Args:
        states: where its jobs stand, told behind them.
        write: how a state is written, such as in a colour.
    """
    return _Tree(plan, states or {}, write).lines()


class _Tree:
    def __init__(self, plan: Plan, states: States, write: Write) -> None:
        self._nodes = plan.nodes
        self._shape = Shape(plan)
        self._states = states
        self._write = write
        self._looks = self._shape.looks(self._text)

    def lines(self) -> Iterator[str]:
        # A stack rather than recursion: a sequence may be longer than Python's own.
        waiting = self._below([ROOT], 1)
        while waiting:
            line = waiting.pop()
            times = f", {line.times:,} times" if line.times > 1 else ""
            text = self._text(line.jobs[0]) + times + self._standing(line.jobs)
            yield "  " * line.indent + "- " * line.dash + text
            waiting += self._below(line.jobs, line.indent + line.dash)

    def _below(self, jobs: Sequence[str], indent: int) -> list[_Line]:
        """What is to be written under some jobs that are alike, the last first."""
        places = [self._shape.places[one] for one in jobs]
        first, found, at = places[0], list[_Line](), 0
        is_parallel = len(first.branches) > 1
        for _, alike in groupby(first.branches, self._looks.__getitem__):
            number = len(list(alike))
            below = [one for place in places for one in place.branches[at : at + number]]
            found.append(_Line(indent, is_parallel, below, number))
            at += number
        for number in range(len(first.meetings)):
            found.append(_Line(indent, False, [place.meetings[number] for place in places], 1))
        return found[::-1]

    def _standing(self, jobs: Sequence[str]) -> str:
        """Where the jobs of a line stand."""
        numbers = numbers_of(self._states[one] for one in jobs if one in self._states)
        if not numbers:
            return ""
        parts = [f"{number:,} {self._write(state)}" for state, number in numbers.items()]
        return f" [{', '.join(parts)}]" if len(jobs) > 1 else f" [{self._write(next(iter(numbers)))}]"

    def _text(self, job_id: str) -> str:
        """A job as its line says it."""
        if job_id == ROOT:
            return ""
        notes = self._notes(job_id)
        label = label_of(self._nodes[job_id])
        return f"{label} ({', '.join(notes)})" if notes else label

    def _notes(self, job_id: str) -> list[str]:
        """What a reader would not see: when it runs, and after what."""
        conditions = {edge.condition for edge in self._shape.before[job_id]} - {Condition.COMPLETE}
        after = Counter(self._called(one) for one in self._shape.places[job_id].after)
        names = [name if number == 1 else f"{number} of {name}" for name, number in after.items()]
        behind = [f"after {' and '.join(names)}"] if names else []
        return [*(f"when {condition}" for condition in sorted(conditions)), *behind]

    def _called(self, job_id: str) -> str:
        if job_id == ROOT:
            return "the start"
        node = self._nodes[job_id]
        if node.kind is not Kind.JOIN:
            return node.label
        return " and ".join(dict.fromkeys(self._called(edge.job_id) for edge in self._shape.before[job_id]))
