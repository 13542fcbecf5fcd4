"""Showing progress: a bar on a terminal, else a line per change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery_flows.progress import Progress

#: Shows one moment's progress.
Show = Callable[[Progress], None]


@contextmanager
def open_show() -> Iterator[Show]:
    """Choose how to show progress."""
    rich = _rich() if sys.stdout.isatty() else None
    if rich is None:
        yield lambda progress: say(line_of(progress))
    else:
        with _bar(rich) as show:
            yield show


def say(line: str) -> None:
    """Say something while the bar may be there. Not through click, which writes past the bar."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def line_of(progress: Progress) -> str:
    """Progress in a line."""
    parts = [f"{progress.finished:,} of {progress.total:,} jobs ({progress.percent:.0f} %)"]
    if progress.failed:
        # A child batch that failed is a failed job of the batch above it.
        parts.append(f"{progress.failed:,} failed, batches above included")
    parts.append(f"{progress.rate:,.0f} jobs/s")
    if progress.eta:
        parts.append(f"{progress.eta:.0f} s left")
    return ", ".join(parts)


def _rich() -> Any:
    try:
        import rich.progress  # an extra: without it there are lines
    except ImportError:
        return None
    return rich.progress


@contextmanager
def _bar(rich: Any) -> Iterator[Show]:
    columns = (rich.BarColumn(), rich.TextColumn("{task.description}"))
    # What callbacks print comes out above the bar.
    with rich.Progress(*columns) as bar:
        task = bar.add_task("")

        def show(progress: Progress) -> None:
            bar.update(task, total=progress.total, completed=progress.finished, description=line_of(progress))

        yield show
