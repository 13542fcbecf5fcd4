"""Reading which jobs of a batch wait for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, or_, select

from celery_flows.states import Kind
from celery_flows.store.counts import is_counted
from celery_flows.store.tables import Tables


def nodes(connection: Connection, tables: Tables, batch_id: str, limit: int) -> Sequence[Any]:
    """The first jobs and joins of a batch, in order of id; of children their kinds and classes as well."""
    jobs, batches = tables.jobs, tables.batches
    child = (batches.c.kind.label("child_kind"), batches.c.flow, batches.c.description)
    statement = (
        select(jobs.c.id, jobs.c.kind, jobs.c.task, jobs.c.name, jobs.c.state, *child)
        .outerjoin(batches, (batches.c.id == jobs.c.id) & (jobs.c.kind == Kind.BATCH))
        .where(jobs.c.batch_id == batch_id, or_(is_counted(tables), jobs.c.kind == Kind.JOIN))
    )
    return connection.execute(statement.order_by(jobs.c.id).limit(limit)).all()


def edges(connection: Connection, tables: Tables, batch_id: str) -> Sequence[Any]:
    """Which jobs of a batch wait for which, and for what end."""
    jobs, edges = tables.jobs, tables.edges
    statement = select(edges.c.job_id, edges.c.dependent_id, edges.c.condition, edges.c.position)
    mine = statement.join(jobs, jobs.c.id == edges.c.job_id).where(jobs.c.batch_id == batch_id)
    return connection.execute(mine.order_by(edges.c.dependent_id, edges.c.job_id)).all()
