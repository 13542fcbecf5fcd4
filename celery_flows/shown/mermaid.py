"""A plan as a flow chart in Mermaid's language."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from celery_flows.plan import Plan
from celery_flows.shown.colours import COLOURS
from celery_flows.shown.labels import States
from celery_flows.shown.picture import Box, picture
from celery_flows.shown.words import printable
from celery_flows.states import Condition, Kind

#: How Mermaid writes what has a meaning to it, or to the HTML that it makes. The first stands in the others.
_SIGNS: Final = (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"))


def to_mermaid(plan: Plan, states: States | None = None) -> str:
    """Write a plan as a chart.

    Args:
        states: where its jobs stand, in words and colours.

    Raises:
        PlanTooLarge: too little in it is alike for a picture that one could look at.
    """
    return "\n".join(_lines(plan, states))


def _lines(plan: Plan, states: States | None) -> Iterator[str]:
    shown = picture(plan, states)
    numbers = {one: f"n{number}" for number, one in enumerate(shown.boxes, 1)}
    yield "flowchart TD"
    for box in shown.boxes.values():
        yield f"    {numbers[box.id]}{_shape(box)}"
    for arrow in shown.arrows:
        sign = "-->" if arrow.condition is Condition.COMPLETE else f"-->|{arrow.condition}|"
        yield f"    {numbers[arrow.before]} {sign} {numbers[arrow.after]}"
    by_state: dict[str, list[str]] = {}
    for box in shown.boxes.values():
        if box.state is not None:
            by_state.setdefault(box.state, []).append(numbers[box.id])
    for state, boxes in by_state.items():
        yield f"    classDef {state} stroke:{COLOURS[state]},stroke-width:2px,fill:{COLOURS[state]}22"
        yield f"    class {','.join(boxes)} {state}"


def _shape(box: Box) -> str:
    if box.kind is Kind.JOIN:
        return '(("&nbsp;"))'
    text = ": ".join(map(_escaped, box.lines)) + (f"<br/>{box.standing}" if box.standing else "")
    return f'[["{text}"]]' if box.kind is Kind.BATCH else f'["{text}"]'


def _escaped(text: str) -> str:
    line = " ".join(printable(text).split())
    for sign, name in _SIGNS:
        line = line.replace(sign, name)
    return line
