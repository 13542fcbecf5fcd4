"""Kinds of words that commands take."""

from __future__ import annotations

import re
from typing import Any, Final

import click

#: Seconds in a unit.
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Age(click.ParamType):  # type: ignore[type-arg] # generic in newer releases only
    """A time such as 30d or 12h."""

    name = "age"

    #: What is to be written.
    _how = "a number and s, m, h, d or w, such as 30d"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it as seconds."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no {self.name}: write {self._how}.", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class Seconds(Age):
    """A time such as 90s or 10m; a number alone is seconds."""

    name = "time"

    _how = "seconds, or a number and s, m, h, d or w, such as 90 or 10m"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it as seconds."""
        text = str(value).strip()
        return super().convert(f"{text}s" if text[-1:].isdigit() else text, param, ctx)
