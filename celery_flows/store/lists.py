"""Reading batches and jobs to show them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Select, func, or_, select

from celery_flows.ids import beginning_at
from celery_flows.states import BatchState, JobState
from celery_flows.store.counts import is_counted
from celery_flows.store.tables import Tables

#: Sorts behind every character of an id.
_BEHIND: Final = "g"

#: Seconds by which the clock of who makes an id may differ from the database's.
_SLACK: Final = 86_400.0

_UNFINISHED: Final = (BatchState.PENDING, BatchState.RUNNING)


class Wanted(NamedTuple):
    """Which batches are meant; None leaves it open."""

    state: BatchState | None = None
    kind: str | None = None
    #: Made at this moment or later, and before this one.
    since: datetime | None = None
    before: datetime | None = None
    tag: str | None = None
    #: What its description has in it, in whatever case.
    description: str | None = None
    parent_id: str | None = None
    #: Only those that are no child of another.
    is_top: bool = False
    #: Those that come behind it in the list: older ones.
    after: str | None = None


def batch(connection: Connection, tables: Tables, batch_id: str) -> Any | None:
    """One batch's row, or None."""
    statement = select(*_shown(tables)).where(tables.batches.c.id == batch_id)
    return connection.execute(statement).one_or_none()


def _shown(tables: Tables) -> list[Column[Any]]:
    # Not the plan, which may be long.
    return [column for column in tables.batches.c if column.name not in ("plan", "open_key", "memory_id")]


def ids_beginning(connection: Connection, tables: Tables, prefix: str, limit: int) -> list[str]:
    """The newest batches whose ids begin so, found by a range of the index."""
    columns = tables.batches.c
    statement = select(columns.id).where(columns.id >= prefix, columns.id < prefix + _BEHIND)
    return list(connection.scalars(statement.order_by(columns.id.desc()).limit(limit)))


def batch_of_job(connection: Connection, tables: Tables, job_id: str) -> str | None:
    """The batch that a job belongs to, or, for a callback, the one that it announces."""
    jobs = tables.jobs
    batch_id = func.coalesce(jobs.c.batch_id, jobs.c.announces_id)
    found: str | None = connection.scalar(select(batch_id).where(jobs.c.id == job_id))
    return found


def batches(connection: Connection, tables: Tables, wanted: Wanted, limit: int) -> Sequence[Any]:
    """The newest batches that are meant, newest first."""
    columns = tables.batches.c
    statement = select(*_shown(tables)).order_by(columns.id.desc()).limit(limit)
    return connection.execute(statement.where(*_which(columns, wanted), *_made(columns, wanted))).all()


def children(connection: Connection, tables: Tables, batch_id: str, limit: int) -> Sequence[Any]:
    """The first children of a batch, in the order in which they were made."""
    columns = tables.batches.c
    statement = select(*_shown(tables)).where(columns.parent_id == batch_id)
    return connection.execute(statement.order_by(columns.id).limit(limit)).all()


def _which(columns: Any, wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    if wanted.state is not None:
        yield columns.state == wanted.state
    if wanted.state in _UNFINISHED:
        # Few, and in an index.
        yield columns.settled_at.is_(None)
    if wanted.kind is not None:
        yield columns.kind == wanted.kind
    if wanted.tag is not None:
        yield _has_tag(columns.tags, wanted.tag)
    if wanted.description is not None:
        yield columns.description.icontains(wanted.description, autoescape=True)
    if wanted.parent_id is not None:
        yield columns.parent_id == wanted.parent_id
    if wanted.is_top:
        yield columns.parent_id.is_(None)


def _made(columns: Any, wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    """When they were made; said of ids too, which sort by it, so that not all are read to find some."""
    if wanted.since is not None:
        yield columns.created_at >= wanted.since
        yield columns.id >= beginning_at(wanted.since, -_SLACK)
    if wanted.before is not None:
        yield columns.created_at < wanted.before
        yield columns.id < beginning_at(wanted.before, _SLACK)
    if wanted.after is not None:
        yield columns.id < wanted.after


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
    states: Sequence[JobState] = (),
) -> Sequence[Any]:
    """The next `limit` of those jobs behind an id.

    Args:
        states: only those in one of these; none: in any.
    """
    statement = _jobs(tables, select(tables.jobs), batch_id, outcomes).where(tables.jobs.c.id > after)
    if states:
        statement = statement.where(tables.jobs.c.state.in_(states))
    return connection.execute(statement.order_by(*_in_order(connection, tables, outcomes)).limit(limit)).all()


def _in_order(
    connection: Connection, tables: Tables, outcomes: Sequence[JobState] | None
) -> list[ColumnElement[Any]]:
    """By id, in words by which the index of outcomes is seen to be in this order, as for the probe of `jobs`."""
    columns = tables.jobs.c
    is_named = outcomes is None and connection.dialect.name not in ("mysql", "mariadb")
    return [*([columns.outcome] if is_named else []), columns.id]


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


def callbacks(connection: Connection, tables: Tables, batch_id: str, round_: int) -> Sequence[Any]:
    """The callbacks of a batch's round, in the order in which they were added."""
    jobs = tables.jobs
    statement = select(jobs).where(jobs.c.announces_id == batch_id, jobs.c.round == round_)
    return connection.execute(statement.order_by(jobs.c.id)).all()


def left(connection: Connection, tables: Tables, batch_id: str) -> Any:
    """How many children of a batch are unfinished, and how many of its callbacks are armed and have not ended."""
    jobs, child = tables.jobs, tables.batches.alias("child")
    children = select(func.count(child.c.id)).where(child.c.parent_id == batch_id, child.c.settled_at.is_(None))
    armed = (jobs.c.announces_id == batch_id, jobs.c.outcome.is_(None), jobs.c.state != JobState.WAITING)
    callbacks = select(func.count(jobs.c.id)).where(*armed)
    return connection.execute(
        select(children.scalar_subquery().label("children"), callbacks.scalar_subquery().label("callbacks"))
    ).one()
