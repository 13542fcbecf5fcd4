"""What is said to the database to cancel a batch."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, or_, select, update

from celery_flows.states import CLAIMABLE, JobState, Kind
from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow


def end_unstarted(connection: Connection, tables: Tables, batch_id: str, unbegun: Sequence[str]) -> int:
    """End the jobs of a batch that no worker has claimed, and these flows in it; say how many.

    What waits for them ends with them, so there is nothing to release.
    """
    jobs = tables.jobs
    calls = one_of(jobs.c.kind, (Kind.TASK, Kind.PLAN, Kind.JOIN))
    statement = (
        update(jobs)
        .where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None))
        .where(or_(calls, jobs.c.id.in_(unbegun)))
        .where(one_of(jobs.c.state, (JobState.WAITING, *CLAIMABLE)))
    )
    ended = {"publishing_since": None, "expires_at": None, "worker_id": None, "ended_at": utcnow()}
    return connection.execute(statement.values(state=JobState.CANCELLED, **ended)).rowcount


def running(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """The jobs of a batch that a worker has claimed."""
    jobs = tables.jobs
    statement = select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None))
    return list(
        connection.scalars(
            statement.where(jobs.c.state == JobState.RUNNING, one_of(jobs.c.kind, (Kind.TASK, Kind.PLAN)))
        )
    )


def unfinished_children(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """The child batches of a batch that are not finished."""
    batches = tables.batches
    statement = select(batches.c.id).where(batches.c.parent_id == batch_id, batches.c.settled_at.is_(None))
    return list(connection.scalars(statement.order_by(batches.c.id)))
