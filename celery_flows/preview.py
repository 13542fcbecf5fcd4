"""A plan as people see it: a tree, a Mermaid chart, or plain data."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any, NamedTuple

from celery_flows.plan import Node, Plan
from celery_flows.shape import ROOT, Place, Shape
from celery_flows.states import Condition, Kind


class Preview:
    """What a flow would run, and in which order. Prints as a tree.

    What stands below another line, at its depth, comes after it; what stands side by side has a dash before it.
    """

    def __init__(self, title: str, plan: Plan) -> None:
        self.title = title
        self.plan = plan

    def __str__(self) -> str:
        return "\n".join([self.title, *_Tree(self.plan).lines()])

    def to_mermaid(self) -> str:
        """A flow chart in Mermaid's language."""
        numbers = {node_id: f"n{number}" for number, node_id in enumerate(self.plan.nodes, 1)}
        lines = ["flowchart TD"]
        for node_id, node in self.plan.nodes.items():
            text = _name(node).replace('"', "#quot;")
            shape = '(("&nbsp;"))' if node.kind is Kind.JOIN else f'["{text}"]'
            lines.append(f"    {numbers[node_id]}{shape}")
        for edge in self.plan.edges:
            arrow = "-->" if edge.condition is Condition.COMPLETE else f"-->|{edge.condition}|"
            lines.append(f"    {numbers[edge.job_id]} {arrow} {numbers[edge.dependent_id]}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Nodes and edges as plain data."""
        return self.plan.to_dict()

    def __repr__(self) -> str:
        return f"<Preview of {self.title}: {len(self.plan.nodes)} nodes, {len(self.plan.edges)} edges>"


class _Line(NamedTuple):
    indent: int
    dash: bool
    job_id: str
    times: int


class _Tree:
    def __init__(self, plan: Plan) -> None:
        self._nodes = plan.nodes
        self._shape = Shape(plan)
        self._looks: dict[str, int] = {}
        self._notice_likeness()

    def _notice_likeness(self) -> None:
        """Number what stands under each job, so that the same number means the same lines."""
        known: dict[tuple[Any, ...], int] = {}
        for place in self._shape.upwards():
            below = tuple(tuple(self._looks[one] for one in some) for some in (place.branches, place.meetings))
            self._looks[place.id] = known.setdefault((self._text(place.id), below), len(known))

    def lines(self) -> list[str]:
        """The tree, line by line."""
        found = list[str]()
        # A stack rather than recursion: a sequence may be longer than Python's own.
        waiting = self._below(self._shape.places[ROOT], 1)
        while waiting:
            line = waiting.pop()
            times = f", {line.times} times" if line.times > 1 else ""
            found.append("  " * line.indent + "- " * line.dash + self._text(line.job_id) + times)
            waiting += self._below(self._shape.places[line.job_id], line.indent + line.dash)
        return found

    def _below(self, place: Place, indent: int) -> list[_Line]:
        """What is to be written under a job, the last first."""
        alike = [list(some) for _, some in groupby(place.branches, self._looks.__getitem__)]
        is_parallel = len(place.branches) > 1
        branches = [_Line(indent, is_parallel, some[0], len(some)) for some in alike]
        return [*branches, *(_Line(indent, False, one, 1) for one in place.meetings)][::-1]

    def _text(self, job_id: str) -> str:
        """A job as its line says it."""
        if job_id == ROOT:
            return ""
        node, notes = self._nodes[job_id], self._notes(job_id)
        name = "then" if node.kind is Kind.JOIN else _name(node)
        return f"{name} ({', '.join(notes)})" if notes else name

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


def _name(node: Node) -> str:
    task = f"{node.task} ({node.call.kind})" if node.call is not None else node.task
    return task if node.name is None or node.name == node.task else f"{node.name}: {task}"
