"""What is said to the database about the callbacks of batches."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, exists, select, update

from celery_flows.states import JobState
from celery_flows.store.publishing import ReadyJob, ready_where
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow


def is_pending(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether a callback of the batch has not ended."""
    jobs = tables.jobs
    return bool(
        connection.scalar(select(exists().where(jobs.c.announces_id == batch_id, jobs.c.outcome.is_(None))))
    )


def arm(connection: Connection, tables: Tables, batch_id: str, events: Sequence[str]) -> list[ReadyJob]:
    """Make the callbacks of events ready, and read them for publishing."""
    jobs = tables.jobs
    due = (jobs.c.announces_id == batch_id) & (jobs.c.state == JobState.WAITING) & jobs.c.event.in_(events)
    ready = [job._replace(state=JobState.READY) for job in ready_where(connection, tables, due)]
    if ready:
        statement = update(jobs).where(jobs.c.id.in_([job.id for job in ready]))
        connection.execute(statement.values(state=JobState.READY, publishing_since=utcnow()))
    return ready


def join_round(connection: Connection, tables: Tables, callback_id: str, round_: int) -> None:
    """Let a new callback belong to a later round than the first."""
    jobs = tables.jobs
    connection.execute(update(jobs).where(jobs.c.id == callback_id).values(round=round_))


def skip(connection: Connection, tables: Tables, batch_id: str) -> None:
    """End the callbacks whose event will not come."""
    jobs = tables.jobs
    waiting = update(jobs).where(jobs.c.announces_id == batch_id, jobs.c.state == JobState.WAITING)
    connection.execute(waiting.values(state=JobState.SKIPPED, ended_at=utcnow()))
