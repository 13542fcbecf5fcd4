"""The boxes of a drawing: how large they are, and what is written in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from unicodedata import east_asian_width

from celery_flows.shown.colours import colour_of
from celery_flows.shown.html import Markup, element
from celery_flows.shown.picture import Box
from celery_flows.shown.words import cut
from celery_flows.states import Kind

#: Places that a character takes, of a font in which all take the same, in its size of 12.
_CHARACTER: Final = 7.25
_LINE: Final = 16.0

#: Characters of a line.
_LONGEST: Final = 34

#: Between what is written in a box and its frame.
_BESIDE: Final = 12.0
_ABOVE: Final = 7.0

#: The radius of a join.
_JOIN: Final = 6.0


@dataclass(frozen=True)
class Drawn:
    """A box as it is drawn."""

    box: Box
    #: When it runs, where that is not once what it waits for is complete.
    condition: str = ""

    @cached_property
    def lines(self) -> list[tuple[str, dict[str, str]]]:
        """What is written, line by line, with how."""
        *names, task = self.box.lines or ("",)
        found = [(_ending(name), {"font_weight": "bold"}) for name in names]
        found.append((_ending(task), {"opacity": "0.8"} if names else {}))
        if self.condition:
            found.append((f"when {self.condition}", {"font_style": "italic"}))
        look = {"fill": colour_of(self.box.state)} if self.box.state else {"opacity": "0.8"}
        return [*found, *((line, look) for line in _wrapped(self.box.standing))]

    @cached_property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        if self.box.kind is Kind.JOIN:
            return 2 * _JOIN, 2 * _JOIN
        width = max(width_of(line) for line, _ in self.lines)
        return width + 2 * _BESIDE, len(self.lines) * _LINE + 2 * _ABOVE

    @property
    def title(self) -> str:
        """All that there is to say of it."""
        standing = f" ({self.box.standing})" if self.box.standing else ""
        return f"{self.box.title}{f', when {self.condition}' if self.condition else ''}{standing}"

    def at(self, x: float, y: float) -> Markup:
        """Draw it around a point."""
        colour, (width, height) = colour_of(self.box.state), self.size
        title = element("title", self.title)
        if self.box.kind is Kind.JOIN:
            circle = element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{_JOIN:g}", fill=colour)
            return element("g", title, circle)
        left, top = x - width / 2, y - height / 2
        frames = [_frame(left, top, width, height, colour, is_dashed=self.box.is_many)]
        if self.box.kind is Kind.BATCH:
            frames.append(_frame(left + 3, top + 3, width - 6, height - 6, colour))
        return element("g", title, *frames, *self._words(x, top), *self._shares(left, top + height, width))

    def _words(self, x: float, top: float) -> Iterator[Markup]:
        for number, (line, look) in enumerate(self.lines):
            y = top + _ABOVE + number * _LINE + 12
            yield element("text", line, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor="middle", **look)

    def _shares(self, left: float, bottom: float, width: float) -> Iterator[Markup]:
        """Along the lower edge, how many of several jobs are in which state."""
        states = self.box.states if self.box.is_many else {}
        total, x = sum(states.values()), left + 6
        for state, number in states.items():
            share = (width - 12) * number / total
            place = {"x": f"{x:.1f}", "y": f"{bottom - 5:.1f}", "width": f"{share:.1f}", "height": "3"}
            yield element("rect", **place, fill=colour_of(state))
            x += share


def width_of(text: str, size: float = 12) -> float:
    """How wide a text is, by its characters."""
    places = sum(2 if east_asian_width(one) in "WF" else 1 for one in text)
    return places * _CHARACTER * size / 12


def _ending(line: str) -> str:
    """The end of a line: of a dotted name that is what tells it from others."""
    text = cut(line, 500)
    return text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}"


def _wrapped(standing: str) -> Iterator[str]:
    line = ""
    for part in standing.split(", ") if standing else ():
        if line and len(line) + len(part) > _LONGEST:
            yield f"{line},"
            line = part
        else:
            line = f"{line}, {part}" if line else part
    if line:
        yield line


def _frame(x: float, y: float, width: float, height: float, colour: str, *, is_dashed: bool = False) -> Markup:
    dash = {"stroke_dasharray": "4 3"} if is_dashed else {}
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}", "rx": "6"}
    return element("rect", **place, fill=colour, fill_opacity="0.13", stroke=colour, stroke_width="1.4", **dash)
