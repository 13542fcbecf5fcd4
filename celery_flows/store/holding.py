"""Reading what holds a batch: its rows that have not ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, func, select

from celery_flows.states import JobState
from celery_flows.store import leases
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow
from celery_flows.store.workers import SWEEP


class Heard(NamedTuple):
    """Whether silence means death at this moment."""

    now: datetime
    #: Whether a worker is heard of.
    is_anybody: bool
    #: Since when somebody has been heard of all the time; None: no worker has ever swept.
    without_pause_since: datetime | None


def heard(connection: Connection, tables: Tables, lease: float) -> Heard:
    """See who is heard of."""
    calm = select(tables.workers.c.started_at).where(tables.workers.c.id == SWEEP).scalar_subquery()
    now, since = connection.execute(select(utcnow(), calm)).one()
    return Heard(now, leases.is_anybody_heard(connection, tables, lease), since)


def unfinished(connection: Connection, tables: Tables, batch_id: str, limit: int) -> Sequence[Row[Any]]:
    """Some jobs and callbacks that a batch waits for, with who runs them and the time now.

    Of each state the oldest `limit`, so that a long queue does not hide what is stuck.
    """
    jobs, workers = tables.jobs, tables.workers
    number = func.row_number().over(partition_by=[jobs.c.kind, jobs.c.state], order_by=jobs.c.id)
    ranked = select(jobs.c.id.label("job_id"), number.label("number")).where(_holds(tables, batch_id))
    first = ranked.subquery("ranked")
    return connection.execute(
        select(jobs, workers.c.hostname, workers.c.pid, workers.c.heartbeat_at, utcnow().label("now"))
        .select_from(first.join(jobs, jobs.c.id == first.c.job_id))
        .outerjoin(workers, workers.c.id == jobs.c.worker_id)
        .where(first.c.number <= limit)
        .order_by(jobs.c.id)
    ).all()


def failed_callbacks(
    connection: Connection, tables: Tables, batch_id: str, round_: int, limit: int
) -> Sequence[Row[Any]]:
    """The first callbacks of a batch's round that failed."""
    jobs = tables.jobs
    columns = (jobs.c[name] for name in ("id", "event", "task", "error_class", "ended_at"))
    ended_so = (jobs.c.announces_id == batch_id, jobs.c.round == round_, jobs.c.outcome == JobState.FAILED)
    return connection.execute(select(*columns).where(*ended_so).order_by(jobs.c.id).limit(limit)).all()


def count(connection: Connection, tables: Tables, batch_id: str) -> int:
    """How many jobs and callbacks a batch waits for."""
    return connection.scalar(select(func.count()).select_from(tables.jobs).where(_holds(tables, batch_id))) or 0


def _holds(tables: Tables, batch_id: str) -> ColumnElement[bool]:
    """What is unfinished; a callback whose event has not come is not waited for, it waits itself."""
    jobs = tables.jobs
    callback = (jobs.c.announces_id == batch_id) & (jobs.c.state != JobState.WAITING)
    return ((jobs.c.batch_id == batch_id) | callback) & jobs.c.outcome.is_(None)
