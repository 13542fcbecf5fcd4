"""What a command says: a JSON object per line for programs, or text for people.

A command makes an `Output` of its context, and gives it records: mappings of texts, numbers, moments, lists and
mappings. With `--json`, which every `FlowsCommand` has, they are written as they are; else as the text or the
table that stands beside them. What is said to people only goes to stderr: stdout holds what was asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import click

from celery_flows.cli import JSON

#: What a command says of one thing.
Record: TypeAlias = Mapping[str, Any]

#: The colours of states, of batches, jobs, workers and checks.
COLOURS: Final = {
    "complete": "green",
    "alive": "green",
    "running": "cyan",
    "retrying": "yellow",
    "cancelled": "yellow",
    "silent": "yellow",
    "failed": "red",
    "dead": "red",
}

#: The least that is left of a column that gives way.
_LEAST: Final = 10

#: Between two columns.
_GAP: Final = "  "


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    #: What stands in it, of a record.
    of: Callable[[Record], object]
    is_number: bool = False
    #: Whether it is cut where the terminal is too narrow.
    gives_way: bool = False
    #: Whether it holds states, which have colours.
    is_state: bool = False
    #: Whether it is left away where nothing stands in it.
    is_optional: bool = False
    #: Whether it is left away where the terminal is too narrow even so; the last such goes first.
    may_go: bool = False


class Output:
    """Where a command says what it found and did."""

    def __init__(self, context: click.Context) -> None:
        """Take what the command line and the environment ask for."""
        #: Whether programs read it.
        self.is_json = bool(context.meta.get(JSON))
        self._colour = False if _is_uncoloured(context) else None

    @property
    def is_terminal(self) -> bool:
        """Whether people see it as it comes."""
        return sys.stdout.isatty()

    @property
    def has_colour(self) -> bool:
        """Whether it may be coloured."""
        return self.is_terminal and self._colour is None

    def say(self, record: Record, text: str) -> None:
        """Say one thing."""
        self._write(as_json(record) if self.is_json else text)

    def table(self, records: Iterable[Record], columns: Sequence[Column]) -> None:
        """Say many things of a kind: a table for people, as wide as a terminal, or as wide as it needs."""
        if self.is_json:
            for record in records:
                self._write(as_json(record))
            return
        every = list(records)
        if every:
            used = [one for one in columns if not one.is_optional or any(map(one.of, every))]
            most = shutil.get_terminal_size().columns if self.is_terminal else None
            shown, rows, widths = _fitting(used, every, most)
            self._write(_line(shown, widths, [column.title for column in shown], is_title=True))
            for row in rows:
                self._write(_line(shown, widths, row))

    def note(self, text: str) -> None:
        """Say something to people only, where they don't take it for a part of what they asked for."""
        if not self.is_json:
            click.echo(encodable(text, sys.stderr), err=True, color=self._colour)

    def _write(self, text: str) -> None:
        click.echo(encodable(text, sys.stdout), color=self._colour)


def as_json(record: Record) -> str:
    """A record in one line: moments as ISO 8601 in UTC, all characters but ASCII escaped."""
    return json.dumps(record, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return dict(value)
    # What else Celery's own serializer takes in arguments and contexts: decimals, UUIDs, bytes, dates.
    return str(value)


def coloured(word: str) -> str:
    """A state, with what is said of it, in its colour; where it goes to no terminal that is left away again."""
    colour = COLOURS.get(word.partition(" ")[0])
    return word if colour is None else click.style(word, fg=colour)


def printable(text: str) -> str:
    """A user's text in one line, without what would steer a terminal."""
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def lines(text: str) -> list[str]:
    """The same, as the lines that it has."""
    return [printable(line) for line in text.splitlines()]


def encodable(text: str, stream: Any) -> str:
    """A text with what a stream can't hold escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def width(text: str) -> int:
    """How many places a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else not unicodedata.combining(one) for one in text)


def cut(text: str, most: int) -> str:
    """A text in at most so many places."""
    taken = 0
    for at, one in enumerate(text):
        taken += width(one)
        # The last place is for the sign that says so, unless this is the end.
        if taken > most or (taken == most and at + 1 < len(text)):
            return f"{text[:at]}…"
    return text


def _is_uncoloured(context: click.Context) -> bool:
    # Celery's --no-color stands before the command, and its own object holds it.
    return bool(os.environ.get("NO_COLOR")) or bool(getattr(context.obj, "no_color", False))


def _escaped(one: str) -> str:
    return " " if one.isspace() else one.encode("unicode_escape").decode("ascii")


def _shown(value: object) -> str:
    return "-" if value is None or value == "" else printable(str(value))


def _fitting(
    columns: Sequence[Column], records: Sequence[Record], most: int | None
) -> tuple[list[Column], list[list[str]], list[int]]:
    """The columns that there is room for, what stands in them, and how wide they are."""
    shown = list(columns)
    while True:
        cells = [[_shown(column.of(record)) for column in shown] for record in records]
        widths = _widths(shown, cells, most)
        going = [column for column in shown if column.may_go]
        if most is None or _across(widths) <= most or not going:
            return shown, cells, widths
        shown.remove(going[-1])


def _across(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], most: int | None) -> list[int]:
    widths = [max(width(column.title), *(width(row[at]) for row in cells)) for at, column in enumerate(columns)]
    if most is None:
        return widths
    over = _across(widths) - most
    # The widest first, as it has most to give.
    giving = [at for at, column in enumerate(columns) if column.gives_way]
    for at in sorted(giving, key=lambda at: -widths[at]):
        given = max(0, min(over, widths[at] - _LEAST))
        widths[at] -= given
        over -= given
    return widths


def _line(
    columns: Sequence[Column], widths: Sequence[int], texts: Sequence[str], *, is_title: bool = False
) -> str:
    cells = []
    for column, most, text in zip(columns, widths, texts, strict=True):
        short = cut(text, most)
        space = " " * (most - width(short))
        shown = click.style(short, bold=True) if is_title else short
        if column.is_state and not is_title:
            shown = coloured(short)
        cells.append(space + shown if column.is_number else shown + space)
    return _GAP.join(cells).rstrip()
