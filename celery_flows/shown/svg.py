"""A plan as an SVG, with nothing in it from elsewhere: for light grounds and dark ones, and to be read aloud."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from celery_flows.plan import Plan
from celery_flows.shown.boxes import Drawn, width_of
from celery_flows.shown.colours import colour_of
from celery_flows.shown.html import Markup, element
from celery_flows.shown.labels import States, numbers_of
from celery_flows.shown.layout import Layout, Point, Size, lay_out
from celery_flows.shown.picture import Arrow, Picture, picture
from celery_flows.shown.words import cut
from celery_flows.states import Condition

_FONT: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"

#: Around everything, and above it for the heading.
_MARGIN: Final = 20.0
_HEADING: Final = 26.0
_LEGEND: Final = 18.0

#: Width from which a picture that goes down is laid on its side instead, if that makes it narrower.
_WIDE: Final = 1200.0

#: How long and how wide the heads of arrows are.
_HEAD: Final = Size(7.0, 7.0)

#: By condition, the state whose colour its arrows have.
_COLOURS: Final = {Condition.FAILURE: "failed", Condition.MISSED: "failed", Condition.SETTLED: "cancelled"}

#: For a file of its own, which has no page that says what is dark.
_STYLE: Final = Markup(
    ".celery-flows-graph{color:#1d2126}.celery-flows-ground{fill:#fff}"
    "@media(prefers-color-scheme:dark){.celery-flows-graph{color:#e4e7eb}.celery-flows-ground{fill:#15181c}}"
)


def to_svg(title: str, plan: Plan, states: States | None = None, *, is_alone: bool = True) -> str:
    """Draw a plan.

    Args:
        title: what it is of.
        states: where its jobs stand.
        is_alone: for a file, rather than as a part of a page, whose colour of text it takes.

    Raises:
        PlanTooLarge: too little in it is alike for a picture that one could look at.
    """
    numbers = numbers_of((states or {}).values())
    legend = " · ".join(f"{number:,} {state}" for state, number in numbers.items())
    drawing = _Drawing(picture(plan, states))
    top = _MARGIN + _HEADING + (_LEGEND if legend else 0)
    width = max(drawing.size[0], width_of(title, 14), width_of(legend)) + 2 * _MARGIN
    moved = element("g", *drawing.parts(), transform=f"translate({_MARGIN:g} {top:g})")
    said = f"{len(plan.nodes):,} jobs. {'; '.join(drawing.words())}."
    inner = [*_heading(title, legend), moved]
    return _whole(title, said, (width, drawing.size[1] + top + _MARGIN), inner, is_alone=is_alone)


def _heading(title: str, legend: str) -> Iterator[Markup]:
    place = {"x": f"{_MARGIN:g}", "y": f"{_MARGIN + 8:g}"}
    yield element("text", cut(title, 120), **place, font_size="14", font_weight="bold")
    if legend:
        yield element("text", legend, **place | {"y": f"{_MARGIN + 8 + _LEGEND:g}"}, opacity="0.8")


def _whole(title: str, said: str, size: tuple[float, float], inner: Sequence[str], *, is_alone: bool) -> str:
    # Of its own, as several may stand on one page.
    own = hashlib.sha256("".join(inner).encode()).hexdigest()[:12]
    style = element("style", _STYLE)
    ground = element("rect", width="100%", height="100%", rx="8", class_="celery-flows-ground")
    return element(
        "svg",
        element("title", title, id=f"t{own}"),
        element("desc", said, id=f"d{own}"),
        *((style, ground) if is_alone else ()),
        *inner,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {size[0]:.0f} {size[1]:.0f}",
        width=f"{size[0]:.0f}",
        height=f"{size[1]:.0f}",
        role="img",
        aria_labelledby=f"t{own} d{own}",
        class_="celery-flows-graph",
        font_family=_FONT,
        font_size="12",
        fill="currentColor",
    )


class _Drawing:
    """The boxes and arrows of a picture, where they stand."""

    def __init__(self, shown: Picture) -> None:
        self._picture = shown
        conditions = shown.conditions()
        self._boxes = {one: Drawn(box, conditions.get(one, "")) for one, box in shown.boxes.items()}
        self._is_flat, self._layout = self._laid_out()
        self.size = self._xy(Point(*self._layout.size))

    def _laid_out(self) -> tuple[bool, Layout]:
        """Downwards; or on its side, where that is too wide and this is narrower."""
        arrows = [(arrow.before, arrow.after) for arrow in self._picture.arrows]
        sizes = {one: box.size for one, box in self._boxes.items()}
        down = lay_out({one: Size(height, width) for one, (width, height) in sizes.items()}, arrows)
        if down.size.across <= _WIDE:
            return False, down
        flat = lay_out({one: Size(width, height) for one, (width, height) in sizes.items()}, arrows)
        return (True, flat) if flat.size.along < down.size.across else (False, down)

    def _xy(self, point: Point) -> tuple[float, float]:
        return (point.along, point.across) if self._is_flat else (point.across, point.along)

    def words(self) -> Iterator[str]:
        """Everything in words, for those who can't see it."""
        before: dict[str, list[str]] = defaultdict(list)
        for arrow in self._picture.arrows:
            before[arrow.after].append(self._boxes[arrow.before].box.title)
        for one, box in self._boxes.items():
            yield f"{box.title}, after {cut(' and '.join(before[one]), 200)}" if before[one] else box.title

    def parts(self) -> Iterator[Markup]:
        """Everything, arrows under boxes."""
        for arrow, path in zip(self._picture.arrows, self._layout.paths, strict=True):
            yield self._arrow(arrow, path)
        for one, box in self._boxes.items():
            yield box.at(*self._xy(self._layout.places[one]))

    def _arrow(self, arrow: Arrow, path: list[Point]) -> Markup:
        colour = colour_of(_COLOURS.get(arrow.condition))
        dash = {} if arrow.condition is Condition.COMPLETE else {"stroke_dasharray": "5 3"}
        end = Point(path[-1].along - self._reach(arrow.after), path[-1].across)
        points = [Point(path[0].along + self._reach(arrow.before), path[0].across), *path[1:-1]]
        points.append(Point(end.along - _HEAD.along, end.across))
        line = element("path", d=self._curve(points), fill="none", stroke=colour, stroke_width="1.3", **dash)
        return element("g", line, self._head(end, colour))

    def _reach(self, one: str) -> float:
        """From the middle of a box to where its arrows begin and end."""
        return self._boxes[one].size[0 if self._is_flat else 1] / 2

    def _curve(self, points: Sequence[Point]) -> str:
        parts = [f"M{self._pair(points[0])}"]
        for one, other in pairwise(points):
            middle = (one.along + other.along) / 2
            bends = Point(middle, one.across), Point(middle, other.across)
            parts.append(f"C{' '.join(map(self._pair, (*bends, other)))}")
        return "".join(parts)

    def _pair(self, point: Point) -> str:
        x, y = self._xy(point)
        return f"{x:.1f} {y:.1f}"

    def _head(self, end: Point, colour: str) -> Markup:
        back, half = end.along - _HEAD.along, _HEAD.across / 2
        corners = (end, Point(back, end.across - half), Point(back, end.across + half))
        return element("path", d=f"M{' L'.join(map(self._pair, corners))}Z", fill=colour)
