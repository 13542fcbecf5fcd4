"""What is said to the database about jobs whose messages may be gone from their queues."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, case, func, literal_column, select

from celery_flows.states import JobState
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago, utcnow

#: The patience with a job grows no more after so many publishes: ten minutes have become a week by then.
_MOST_DOUBLINGS: Final = 10


def growth(delivery: int) -> int:
    """By how much the patience with a job has grown when it was published so often."""
    return 1 << min(max(delivery - 1, 0), _MOST_DOUBLINGS)


def queues(connection: Connection, tables: Tables, age: float) -> list[str]:
    """The queues in which a job has waited for `age` seconds and longer."""
    jobs = tables.jobs
    statement = select(jobs.c.queue).where(_waits(tables, age), jobs.c.queue.is_not(None)).distinct()
    return list(connection.scalars(statement.order_by(jobs.c.queue)))


def fronts(connection: Connection, tables: Tables) -> dict[str, float]:
    """How far queues have been read: for how many seconds the newest message had been queued that now runs."""
    jobs = tables.jobs
    runs = (jobs.c.worker_id.is_not(None)) & (jobs.c.state == JobState.RUNNING) & jobs.c.queued_at.is_not(None)
    newest = func.max(jobs.c.queued_at).label("newest")
    rows = connection.execute(
        select(jobs.c.queue, newest, utcnow().label("now")).where(runs).group_by(jobs.c.queue)
    )
    return {row.queue: (row.now - row.newest).total_seconds() for row in rows}


def find(
    connection: Connection,
    tables: Tables,
    queue: str,
    age: float,
    limit: int,
    *,
    passed: float = 0.0,
    after: str = "",
) -> list[ReadyJob]:
    """Lock jobs that have waited too long in a queue, from behind an id on.

    Each publish doubles the time for which the next one waits.

    Args:
        passed: seconds since the newest message was queued that was read from the queue: only jobs that were
            queued so much before it are found.
    """
    jobs = tables.jobs
    doublings = case((jobs.c.delivery > _MOST_DOUBLINGS, _MOST_DOUBLINGS), else_=jobs.c.delivery - 1)
    patience = age * literal_column("1").op("<<")(doublings)
    waiting = select(*ReadyJob.columns(tables)).where(
        _waits(tables, age), jobs.c.queue == queue, jobs.c.id > after
    )
    waiting = waiting.where(jobs.c.queued_at <= seconds_ago(patience + max(passed, 0.0)))
    rows = connection.execute(waiting.order_by(jobs.c.id).limit(limit).with_for_update(skip_locked=True)).all()
    return [ReadyJob(*row) for row in rows]


def _waits(tables: Tables, age: float) -> ColumnElement[bool]:
    """Queued for so long, for the first time or again, and, as far as anybody knows, in no worker's memory."""
    jobs = tables.jobs
    return (
        jobs.c.ended_at.is_(None)
        & (jobs.c.queued_at <= seconds_ago(age))
        & one_of(jobs.c.state, (JobState.QUEUED, JobState.RETRYING))
        & jobs.c.publishing_since.is_(None)
        & jobs.c.worker_id.is_(None)
    )
