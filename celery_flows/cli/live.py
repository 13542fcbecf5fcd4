"""Showing how something goes on: a bar on a terminal, else a line per change."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from celery_flows.progress import Progress

#: Shows one moment's progress, and the words that stand for it.
Show: TypeAlias = Callable[[Progress, str], None]


@contextmanager
def open_bar(*, is_wanted: bool = True, has_colour: bool = True) -> Iterator[Show | None]:
    """A bar, where one is wanted, and there is a terminal and rich to draw it; else None."""
    is_drawn = is_wanted and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    rich = _rich() if is_drawn else None
    if rich is None:
        yield None
    else:
        with _bar(rich, has_colour=has_colour) as show:
            yield show


def say(line: str) -> None:
    """Say something while the bar may be there. Not through click, which writes past the bar."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _rich() -> Any:
    try:
        import rich.console
        import rich.progress  # an extra: without it there are lines
    except ImportError:
        return None
    return rich


@contextmanager
def _bar(rich: Any, *, has_colour: bool) -> Iterator[Show]:
    columns = (rich.progress.BarColumn(), rich.progress.TextColumn("{task.description}", markup=False))
    console = rich.console.Console(no_color=None if has_colour else True)
    # What is printed meanwhile comes out above the bar.
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("")

        def show(progress: Progress, words: str) -> None:
            bar.update(task, total=progress.total, completed=progress.finished, description=words)

        yield show
