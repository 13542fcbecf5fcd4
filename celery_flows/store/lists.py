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
    return connection.execute(select(tables.batches).where(tables.batches.c.id == batch_id)).one_or_none()


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
    statement = select(tables.batches).order_by(columns.id.desc()).limit(limit)
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
    statement = _jobs(tables, select(tables.jobs), batch_id, outcomes).order_by(tables.jobs.c.id).offset(offset)
    return connection.execute(statement if limit is None else statement.limit(limit)).all()


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
    return connection.execute(statement.order_by(tables.jobs.c.id).limit(limit)).all()


def count_jobs(connection: Connection, tables: Tables, batch_id: str, outcomes: Sequence[JobState] | None) -> int:
    """How many of those jobs there are."""
    return connection.scalar(_jobs(tables, select(func.count(tables.jobs.c.id)), batch_id, outcomes)) or 0


def _jobs(
    tables: Tables, statement: Select[Any], batch_id: str, outcomes: Sequence[JobState] | None
) -> Select[Any]:
    jobs = tables.jobs
    ended = jobs.c.outcome.is_(None) if outcomes is None else jobs.c.outcome.in_(outcomes)
    return statement.where(jobs.c.batch_id == batch_id, ended, is_counted(tables))
