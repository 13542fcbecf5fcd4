"""A plan as people see it: a tree, a drawing, a Mermaid chart, or plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from celery_flows.errors import PlanTooLarge
from celery_flows.plan import Plan
from celery_flows.shown import html
from celery_flows.shown.labels import States
from celery_flows.shown.mermaid import to_mermaid
from celery_flows.shown.svg import to_svg
from celery_flows.shown.tree import tree
from celery_flows.shown.words import in_brackets

#: Lines of a tree at a prompt.
_LINES: Final = 50


class Preview:
    """What a flow would run, and in which order. Prints as a tree.

    What stands below another line, at its depth, comes after it; what stands side by side has a dash before it.
    """

    def __init__(self, title: str, plan: Plan, states: States | None = None) -> None:
        """Show a plan.

        Args:
            title: what it is of.
            plan: the jobs, and what waits for what.
            states: where its jobs stand, once they are rows.
        """
        self.title = title
        self.plan = plan
        self.states = states or {}

    def lines(self, write: Callable[[str], str] = str) -> Iterator[str]:
        """The lines of the tree.

        Args:
            write: how a state is written, such as in a colour.
        """
        yield self.title
        yield from tree(self.plan, self.states, write)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_mermaid(self) -> str:
        """A flow chart in Mermaid's language; of what is alike the first, and how many more there are.

        Raises:
            PlanTooLarge: too little in it is alike for a chart that one could look at.
        """
        return to_mermaid(self.plan, self.states)

    def to_svg(self) -> str:
        """A drawing, as an SVG file for light grounds and dark ones; of what is alike the first, as in a chart.

        Raises:
            PlanTooLarge: too little in it is alike for a drawing that one could look at.
        """
        return to_svg(self.title, self.plan, self.states)

    def to_dict(self) -> dict[str, Any]:
        """Nodes and edges as plain data; where states are known, each node has its own."""
        data = self.plan.to_dict()
        for node in data["nodes"] if self.states else ():
            node["state"] = str(self.states[node["id"]])
        return data

    def __repr__(self) -> str:
        numbers = {"job": len(self.plan.nodes), "edge": len(self.plan.edges)}
        facts = [f"{number:,} {noun if number == 1 else f'{noun}s'}" for noun, number in numbers.items()]
        return in_brackets(f"Preview of {self.title}", facts)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002  # IPython's signature
        found = list(islice(self.lines(), _LINES + 1))
        for number, line in enumerate(found[:_LINES]):
            if number:
                printer.break_()
            printer.text(line)
        if len(found) > _LINES:
            printer.break_()
            printer.text("… and more: print it")

    def _repr_svg_(self) -> str | None:
        try:
            return self.to_svg()
        except PlanTooLarge:
            return None

    def _repr_html_(self) -> str:
        try:
            drawn = html.Markup(to_svg(self.title, self.plan, self.states, is_alone=False))
        except PlanTooLarge:
            drawn = html.element("pre", str(self))
        return html.element("div", drawn, style="overflow:auto;max-height:60em")
