"""The words in which things are shown: ids cut short, ages, calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from celery_flows.codec import REPLACEMENT

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: How much of a UUID is shown. Of ours that is the time, which tells those of one process from one another.
_SHORT: Final = 18

#: Characters of anything that a user gave, such as a description.
_LONGEST: Final = 60

#: Units of an age: up to how many seconds, in which, and what it is called.
_UNITS: Final = ((100, 1, "s"), (6_000, 60, "min"), (172_800, 3600, "h"), (float("inf"), 86_400, "d"))


def short(any_id: str) -> str:
    """The beginning of an id, which tells it from others; the commands take it for the whole."""
    return any_id[:_SHORT] if _UUID.fullmatch(any_id) else cut(any_id)


def printable(text: str) -> str:
    """A text without what would steer a terminal, and what has no place in XML."""
    return "".join(one if one.isprintable() or one in "\n\t" else REPLACEMENT for one in text)


def cut(text: str, longest: int = _LONGEST) -> str:
    """A text on one line, of so many characters at most, which does nothing to a terminal."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def quoted(text: str) -> str:
    """A text of a user's, in quotes and cut."""
    return repr(cut(text))


def ago(seconds: float) -> str:
    """How long ago something was."""
    return "just now" if seconds < 1 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """A length of time, roughly: 12 s, 3 min, 5 h, 4 d."""
    size, word = next((size, word) for most, size, word in _UNITS if seconds < most)
    if size == 1 and seconds < 10:
        return f"{seconds:.1f} {word}".replace(".0 ", " ")
    return f"{seconds / size:.0f} {word}"


def call_of(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A call as one would write it, cut."""
    given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"{task}({cut(', '.join(given))})"


def counted(numbers: Mapping[str, int], names: Iterable[str]) -> list[str]:
    """Numbers with their names, but for what is none."""
    return [f"{numbers[name]:,} {name}" for name in names if numbers[name]]


def in_brackets(head: str, facts: Sequence[str]) -> str:
    """What a `repr` is that could not be typed in: <head: fact, fact>."""
    return f"<{head}: {', '.join(facts)}>" if facts else f"<{head}>"


def pretty(printer: Any, head: str, facts: Sequence[str]) -> None:
    """The same for IPython's printer, which breaks it into lines where it is too long, also inside of others."""
    with printer.group(2, "<", ">"):
        printer.text(head)
        for number, fact in enumerate(facts):
            printer.text("," if number else ":")
            printer.breakable()
            printer.text(fact)
