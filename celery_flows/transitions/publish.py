"""The publisher's marks: what it keeps, and what it has handed over: ready -> queued."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from celery_flows.store import publishing
from celery_flows.store.database import Database
from celery_flows.store.publishing import Published

__all__ = ["Published", "keep_for_publishing", "mark_published"]


def mark_published(database: Database, published: Iterable[Published]) -> None:
    """Note that the broker has these messages."""
    marks = list(published)
    if len(marks) == 1:
        [one] = marks
        asked = {"at_id": one.job_id, "at_delivery": one.delivery, "to_queue": one.queue}
        database.run(publishing.mark_one, **asked, to_delay=max(0.0, one.delay))
    elif marks:
        database.transact(publishing.mark_queued, database.tables, marks)


def keep_for_publishing(database: Database, ids: Sequence[str]) -> None:
    """Go on owning jobs whose turn comes late, so that the sweep does not publish them a second time."""
    if ids:
        database.transact(publishing.keep, database.tables, ids)
