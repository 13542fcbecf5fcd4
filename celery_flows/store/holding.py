"""Reading what holds a batch: its rows that have not ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow


def unfinished(connection: Connection, tables: Tables, batch_id: str, limit: int) -> Sequence[Row[Any]]:
    """Some rows of a batch that have not ended, jobs and callbacks, with who runs them and the time now.

    Of each state the oldest `limit`, so that a long queue does not hide what is stuck.
    """
    jobs, workers = tables.jobs, tables.workers
    mine = or_(jobs.c.batch_id == batch_id, jobs.c.announces_id == batch_id)
    number = func.row_number().over(partition_by=[jobs.c.kind, jobs.c.state], order_by=jobs.c.id)
    ranked = select(jobs.c.id.label("job_id"), number.label("number")).where(mine, jobs.c.outcome.is_(None))
    first = ranked.subquery("ranked")
    return connection.execute(
        select(
            jobs,
            workers.c.hostname,
            workers.c.pid,
            workers.c.heartbeat_at,
            utcnow().label("now"),
        )
        .select_from(first.join(jobs, jobs.c.id == first.c.job_id))
        .outerjoin(workers, workers.c.id == jobs.c.worker_id)
        .where(first.c.number <= limit)
        .order_by(jobs.c.id)
    ).all()


def numbers(connection: Connection, tables: Tables, batch_id: str) -> dict[tuple[str, str], int]:
    """How many rows of a batch have not ended, by kind and state; callbacks whose event has not come wait too."""
    jobs = tables.jobs
    mine = or_(jobs.c.batch_id == batch_id, jobs.c.announces_id == batch_id)
    statement = select(jobs.c.kind, jobs.c.state, func.count()).where(mine, jobs.c.outcome.is_(None))
    rows = connection.execute(statement.group_by(jobs.c.kind, jobs.c.state))
    return {(kind, state): number for kind, state, number in rows}
