"""What is said to the database to cancel a batch."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from celery_flows.states import CLAIMABLE, JobState, Kind
from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow


def end_unstarted(connection: Connection, tables: Tables, batch_id: str) -> int:
    """End the jobs of a batch that no worker has claimed; say how many."""
    jobs = tables.jobs
    statement = (
        update(jobs)
        .where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None), jobs.c.kind == Kind.TASK)
        .where(one_of(jobs.c.state, (JobState.WAITING, *CLAIMABLE)))
    )
    ended = {"publishing_since": None, "expires_at": None, "worker_id": None, "ended_at": utcnow()}
    return connection.execute(statement.values(state=JobState.CANCELLED, **ended)).rowcount


def running(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """The jobs of a batch that a worker has claimed."""
    jobs = tables.jobs
    statement = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None))
    return list(connection.scalars(statement.where(jobs.c.state == JobState.RUNNING, jobs.c.kind == Kind.TASK)))


def unfinished_children(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """The child batches of a batch that are not finished."""
    batches = tables.batches
    statement = select(batches.c.id).where(batches.c.parent_id == batch_id, batches.c.settled_at.is_(None))
    return list(connection.scalars(statement.order_by(batches.c.id)))
