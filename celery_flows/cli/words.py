"""How people read numbers and moments."""

from __future__ import annotations

from datetime import UTC, datetime

from celery_flows.progress import Progress
from celery_flows.shown.words import span


def age(seconds: float) -> str:
    """A time in its largest unit, such as 3h."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def age_of(moment: datetime | None) -> str | None:
    """How long ago something was; None where it has not been."""
    return None if moment is None else age((datetime.now(UTC) - moment).total_seconds())


def moment(at: datetime | None) -> str | None:
    """A moment, and how long ago it was."""
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({age_of(at)} ago)"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def line_of(progress: Progress, aside: str = "") -> str:
    """Progress in a line.

    Args:
        aside: what is to be said of the number of failed jobs.
    """
    if not progress.total:
        return "no jobs"
    parts = [f"{progress.finished:,} of {counted(progress.total, 'job')} ({progress.percent:.0f} %)"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed{aside}")
    if progress.cancelled:
        parts.append(f"{progress.cancelled:,} cancelled")
    parts.append(f"{progress.rate:,.0f} jobs/s" if progress.rate >= 10 else f"{progress.rate:.2g} jobs/s")
    if progress.eta:
        parts.append(f"{span(progress.eta)} left")
    return ", ".join(parts)
