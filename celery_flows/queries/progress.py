"""How far a batch has come, and where it stands: one query each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from celery_flows.errors import BatchNotFound
from celery_flows.progress import Progress
from celery_flows.states import JobState
from celery_flows.store import counts
from celery_flows.store.database import Database


def progress(database: Database, batch_id: str) -> Progress:
    """Count a batch's jobs by state.

    Raises:
        BatchNotFound: there is no such batch.
    """
    return _counted(database, batch_id, counts.by_state)


def total_progress(database: Database, batch_id: str) -> Progress:
    """Count the jobs of a batch and of all its children by state.

    Raises:
        BatchNotFound: there is no such batch.
    """
    return _counted(database, batch_id, counts.in_total)


def _counted(database: Database, batch_id: str, count: Callable[..., Sequence[Any]]) -> Progress:
    with database.reading() as connection:
        rows = count(connection, database.tables, batch_id)
    if not rows:
        raise BatchNotFound(batch_id=batch_id)
    by_state: Counter[str] = Counter()
    for row in rows:
        if row.state is not None:
            by_state[row.state] += int(row.jobs)
    complete, failed = by_state[JobState.COMPLETE], by_state[JobState.FAILED]
    cancelled = by_state[JobState.CANCELLED] + by_state[JobState.SKIPPED]
    total = sum(by_state.values())
    started, until = rows[0].started_at, rows[0].settled_at or rows[0].now
    return Progress(
        total=total,
        complete=complete,
        failed=failed,
        cancelled=cancelled,
        pending=total - complete - failed - cancelled,
        running=by_state[JobState.RUNNING],
        elapsed=(until - started).total_seconds() if started else 0.0,
    )
