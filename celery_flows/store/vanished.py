"""What is said to the database about jobs whose messages may be gone from their queues."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, case, literal_column, select, update

from celery_flows.states import JobState
from celery_flows.store.jobs import ReadyJob
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago, utcnow

#: The patience with a job grows no more after so many publishes: ten minutes have become a week by then.
_MOST_DOUBLINGS: Final = 10


def queues(connection: Connection, tables: Tables, age: float) -> list[str]:
    """The queues in which a job has waited for `age` seconds and longer."""
    jobs = tables.jobs
    statement = select(jobs.c.queue).where(_waits(tables, age), jobs.c.queue.is_not(None)).distinct()
    return list(connection.scalars(statement.order_by(jobs.c.queue)))


def take(connection: Connection, tables: Tables, queue: str, age: float, limit: int) -> list[ReadyJob]:
    """Take over jobs that have waited in a queue that is empty, under the next delivery number.

    Each publish doubles the time for which the next one waits.
    """
    jobs = tables.jobs
    columns = (jobs.c[name] for name in ReadyJob._fields)
    doublings = case((jobs.c.delivery > _MOST_DOUBLINGS, _MOST_DOUBLINGS), else_=jobs.c.delivery - 1)
    patience = age * literal_column("1").op("<<")(doublings)
    waiting = select(*columns).where(_waits(tables, age), jobs.c.queue == queue)
    waiting = waiting.where(jobs.c.queued_at <= seconds_ago(patience))
    rows = connection.execute(waiting.order_by(jobs.c.id).limit(limit).with_for_update(skip_locked=True)).all()
    found = [ReadyJob(*row) for row in rows]
    if found:
        taken = update(jobs).where(jobs.c.id.in_([job.id for job in found]))
        state = case((jobs.c.state == word(JobState.QUEUED), word(JobState.READY)), else_=jobs.c.state)
        connection.execute(taken.values(state=state, delivery=jobs.c.delivery + 1, publishing_since=utcnow()))
    return [job._replace(delivery=job.delivery + 1) for job in found]


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
