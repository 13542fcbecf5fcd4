"""Reading batches and jobs to show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, func, or_, select

from celery_flows.states import BatchState, JobState
from celery_flows.store.counts import is_counted
from celery_flows.store.tables import Tables


def batch(connection: Connection, tables: Tables, batch_id: str) -> Any | None:
    """One batch's row, or None."""
    statement = select(*_shown(tables)).where(tables.batches.c.id == batch_id)
    return connection.execute(statement).one_or_none()


def _shown(tables: Tables) -> list[Column[Any]]:
    # Not the plan, which may be long.
    return [column for column in tables.batches.c if column.name not in ("plan", "open_key", "memory_id")]


def batches(
    connection: Connection,
    tables: Tables,
    *,
    state: BatchState | None,
    kind: str | None,
    since: datetime | None,
    tag: str | None,
    limit: int,
) -> Sequence[Any]:
    """The newest batches that fit, newest first."""
    columns = tables.batches.c
    statement = select(*_shown(tables)).order_by(columns.id.desc()).limit(limit)
    if state is not None:
        statement = statement.where(columns.state == state)
    if kind is not None:
        statement = statement.where(columns.kind == kind)
    if since is not None:
        statement = statement.where(columns.created_at >= since)
    if tag is not None:
        statement = statement.where(_has_tag(columns.tags, tag))
    return connection.execute(statement).all()


def _has_tag(tags: Column[Any], tag: str) -> ColumnElement[bool]:
    # Tags are a JSON list: before one stands a bracket or a comma and a space, which inside of one can't stand
    # before a bare quote. Not LIKE, which on SQLite ignores case.
    quoted = json.dumps(tag)
    return or_(*(func.replace(tags, before + quoted, "") != tags for before in ("[", ", ")))


def jobs(
    connection: Connection,
    tables: Tables,
    batch_id: str,
    outcomes: Sequence[JobState] | None,
    *,
    offset: int,
    limit: int | None,
) -> Sequence[Any]:
    """A batch's jobs with one of these outcomes (None: those that have not ended), in order of id."""
    order = _in_order(connection, tables, outcomes)
    statement = _jobs(tables, select(tables.jobs), batch_id, outcomes).order_by(*order).offset(offset)
    return connection.execute(statement if limit is None else statement.limit(limit)).all()


def named(connection: Connection, tables: Tables, batch_id: str) -> Sequence[Any]:
    """Names and states of the jobs of a batch that have a name, in order of id."""
    jobs = tables.jobs
    statement = select(jobs.c.name, jobs.c.state).where(jobs.c.batch_id == batch_id, jobs.c.name.is_not(None))
    return connection.execute(statement.order_by(jobs.c.id)).all()


def job_named(connection: Connection, tables: Tables, batch_id: str, name: str) -> str | None:
    """The job of a batch that has a name."""
    jobs = tables.jobs
    found: str | None = connection.scalar(
        select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.name == name)
    )
    return found


def result(connection: Connection, tables: Tables, batch_id: str, name: str) -> Any | None:
    """State, whether the result is kept, and the result of the job of a batch that has a name, or None."""
    jobs = tables.jobs
    statement = select(jobs.c.state, jobs.c.keeps, jobs.c.result)
    return connection.execute(statement.where(jobs.c.batch_id == batch_id, jobs.c.name == name)).one_or_none()


def jobs_after(
    connection: Connection,
    tables: Tables,
    batch_id: str,
    outcomes: Sequence[JobState] | None,
    after: str,
    limit: int,
) -> Sequence[Any]:
    """The next `limit` of those jobs behind an id."""
    statement = _jobs(tables, select(tables.jobs), batch_id, outcomes).where(tables.jobs.c.id > after)
    return connection.execute(statement.order_by(*_in_order(connection, tables, outcomes)).limit(limit)).all()


def _in_order(
    connection: Connection, tables: Tables, outcomes: Sequence[JobState] | None
) -> list[ColumnElement[Any]]:
    """By id, in words by which the index of outcomes is seen to be in this order, as for the probe of `jobs`."""
    columns = tables.jobs.c
    is_named = outcomes is None and connection.dialect.name not in ("mysql", "mariadb")
    return [*([columns.outcome] if is_named else []), columns.id]


def callbacks(connection: Connection, tables: Tables, batch_id: str, round_: int) -> Sequence[Any]:
    """The callbacks of a batch's round, in order of id."""
    jobs = tables.jobs
    statement = select(jobs).where(jobs.c.announces_id == batch_id, jobs.c.round == round_)
    return connection.execute(statement.order_by(jobs.c.id)).all()


def count_jobs(connection: Connection, tables: Tables, batch_id: str, outcomes: Sequence[JobState] | None) -> int:
    """How many of those jobs there are."""
    return connection.scalar(_jobs(tables, select(func.count(tables.jobs.c.id)), batch_id, outcomes)) or 0


def _jobs(
    tables: Tables, statement: Select[Any], batch_id: str, outcomes: Sequence[JobState] | None
) -> Select[Any]:
    jobs = tables.jobs
    ended = jobs.c.outcome.is_(None) if outcomes is None else jobs.c.outcome.in_(outcomes)
    return statement.where(jobs.c.batch_id == batch_id, ended, is_counted(tables))


def name_of(connection: Connection, tables: Tables, job_id: str) -> str | None:
    """What a job is called in its flow."""
    jobs = tables.jobs
    found: str | None = connection.scalar(select(jobs.c.name).where(jobs.c.id == job_id))
    return found
