"""How far a batch has come, and where it stands: one query each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from celery_flows.errors import BatchNotFound
from celery_flows.progress import Progress
from celery_flows.states import JobState
from celery_flows.store import counts, listed
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


def outcomes(database: Database, batch_ids: Sequence[str]) -> dict[str, Counter[str | None]]:
    """Count the jobs of some batches by outcome, None being pending, for a list of them; one query for all."""
    found: dict[str, Counter[str | None]] = {batch_id: Counter() for batch_id in batch_ids}
    if not found:
        return found
    with database.reading() as connection:
        for row in listed.by_outcome(connection, database.tables, list(found)):
            found[row.batch_id][row.outcome] += int(row.jobs)
    return found


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
