"""How states, counts and times are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.utils.timesince import timesince
from django.utils.translation import ngettext

from celery_flows.messaging.runtime import find_runtime
from celery_flows.queries.progress import outcomes
from celery_flows.states import JobState

#: Where a page keeps the counts of a batch.
COUNTS: Final = "flows_counts"

#: What the parts of a bar stand for, from left to right; the rest of it is pending.
OUTCOMES: Final = (JobState.COMPLETE, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)


def short(what: object) -> str:
    """How something begins, in a list or a line."""
    return str(Truncator(what).chars(80))


def state(word: str) -> Any:
    """A state, in its colour."""
    return format_html('<span class="flows-state flows-{}">{}</span>', word, word)


def age(moment: datetime | None) -> str:
    """How long ago something was, in the largest units."""
    if moment is None:
        return "-"
    now = timezone.now() if timezone.is_aware(moment) else timezone.make_naive(timezone.now())
    seconds = int((now - moment).total_seconds())
    if seconds < 60:
        return ngettext("%d second", "%d seconds", max(seconds, 0)) % max(seconds, 0)
    return str(timesince(moment, now, depth=1))


def count_jobs(batches: Iterable[Any]) -> None:
    """Count the jobs of some batches by outcome, in one query, and keep the counts with each."""
    every = list(batches)
    counts = outcomes(find_runtime().database, [batch.pk for batch in every])
    for batch in every:
        setattr(batch, COUNTS, counts[batch.pk])


def counts_of(batch: Any) -> Counter[str | None]:
    """The jobs of a batch by outcome, None being pending."""
    if not hasattr(batch, COUNTS):
        count_jobs([batch])
    counts: Counter[str | None] = getattr(batch, COUNTS)
    return counts


def progress(batch: Any) -> Any:
    """A bar, and what it stands for."""
    counts = counts_of(batch)
    total, pending = counts.total(), counts[None]
    finished = total - pending
    words = [f"{finished:,} of {total:,}"]
    words += [f"{counts[one]:,} {one}" for one in OUTCOMES[1:] if counts[one]]
    percent = 100 * finished // total if total else 100
    return format_html("{} <b>{} %</b> <span>{}</span>", _bar(counts, total, percent), percent, ", ".join(words))


def _bar(counts: Counter[str | None], total: int, percent: int) -> Any:
    """A bar in parts; drawn, not styled, as a strict content security policy forbids styles in a page."""
    parts, start = [], 0.0
    for outcome in OUTCOMES:
        width = 100 * counts[outcome] / total if total else 0.0
        if width:
            parts.append((outcome, f"{start:.2f}", f"{width:.2f}"))
        start += width
    part = '<rect class="flows-{}" x="{}" width="{}" height="8"></rect>'
    return format_html(
        '<svg class="flows-progress" viewBox="0 0 100 8" preserveAspectRatio="none" role="img"'
        ' aria-label="{} %">{}</svg>',
        percent,
        format_html_join("", part, parts),
    )


def links(*given: tuple[str, str, dict[str, str]]) -> Any:
    """Links to lists: what each says, of which model, and what it is filtered by."""
    return format_html_join(
        " · ", '<a href="{}">{}</a>', ((changelist(model, **filters), said) for said, model, filters in given)
    )


def changelist(model: str, **filters: str) -> str:
    """The address of a list."""
    query = f"?{urlencode(filters)}" if filters else ""
    return reverse(f"admin:celery_flows_{model}_changelist") + query


def page(model: str, pk: str | None, said: str) -> Any:
    """A link to a row's own page."""
    if pk is None:
        return "-"
    return format_html('<a href="{}">{}</a>', reverse(f"admin:celery_flows_{model}_change", args=[pk]), said)
