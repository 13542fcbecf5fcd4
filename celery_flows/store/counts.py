"""Counting the jobs of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from celery_flows.states import JobState, Kind
from celery_flows.store.statements import one_of
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


def in_total(connection: Connection, tables: Tables, batch_id: str) -> Sequence[Any]:
    """The same for a batch with all its children, and theirs, whose own jobs count rather than their rows."""
    batches, jobs = tables.batches, tables.jobs
    top = select(batches.c.id, batches.c.started_at, batches.c.settled_at).where(batches.c.id == batch_id)
    below = top.cte("below", recursive=True)
    child = select(batches.c.id, below.c.started_at, below.c.settled_at)
    below = below.union_all(child.join(below, batches.c.parent_id == below.c.id))
    mine = and_(jobs.c.batch_id == below.c.id, is_counted(tables), jobs.c.kind != Kind.BATCH)
    number = func.count(jobs.c.id).label("jobs")
    return connection.execute(
        select(below.c.started_at, below.c.settled_at, utcnow().label("now"), jobs.c.state, number)
        .select_from(below.outerjoin(jobs, mine))
        .group_by(below.c.started_at, below.c.settled_at, jobs.c.state)
    ).all()


def is_counted(tables: Tables) -> ColumnElement[bool]:
    """Which rows are jobs to a user.

    An open block is none, and one that was abandoned is; planning is none once it is done; a join never is.
    """
    jobs = tables.jobs
    is_call = one_of(jobs.c.kind, (Kind.TASK, Kind.BATCH, Kind.CALLBACK))
    is_planning = and_(jobs.c.kind == Kind.PLAN, jobs.c.state != JobState.COMPLETE)
    return or_(is_call, is_planning, and_(jobs.c.kind == Kind.BLOCK, jobs.c.state == JobState.FAILED))
