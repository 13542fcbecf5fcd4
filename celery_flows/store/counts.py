"""Counting the jobs of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from celery_flows.states import JobState, Kind
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow


def by_state(connection: Connection, tables: Tables, batch_id: str) -> Sequence[Any]:
    """A batch's times, now, and its jobs by state: a row per state, one with None where it has no jobs."""
    batches, jobs = tables.batches, tables.jobs
    number = func.count(jobs.c.id).label("jobs")
    return connection.execute(
        select(batches.c.started_at, batches.c.settled_at, utcnow().label("now"), jobs.c.state, number)
        .select_from(batches.outerjoin(jobs, and_(jobs.c.batch_id == batches.c.id, is_counted(tables))))
        .where(batches.c.id == batch_id)
        .group_by(batches.c.started_at, batches.c.settled_at, jobs.c.state)
    ).all()


def is_counted(tables: Tables) -> ColumnElement[bool]:
    """Which rows are jobs to a user: an open block is not, one that was abandoned is."""
    jobs = tables.jobs
    return or_(jobs.c.kind != Kind.BLOCK, jobs.c.state == JobState.FAILED)
