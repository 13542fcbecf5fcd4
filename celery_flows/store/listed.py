"""Counting the jobs of the batches of a list, all at once; large batches by their parts, as `counts` does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    case,
    exists,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from celery_flows.states import JobState
from celery_flows.store.counts import ALONE, SIZES, WENT_WRONG, is_counted
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import PARTIAL, Tables

_NONE: ColumnElement[int] = literal_column("0")
_ALONE: ColumnElement[int] = literal_column(str(ALONE))


def by_outcome(connection: Connection, tables: Tables, batch_ids: Sequence[str]) -> Sequence[Any]:
    """The jobs of some batches by batch and outcome, None being pending; an outcome may have several rows."""
    count = _by_parts if connection.dialect.name in PARTIAL else _one_by_one
    return connection.execute(count(tables, batch_ids)).all()


def _counted(tables: Tables, batch_ids: Sequence[str]) -> Select[Any]:
    jobs = tables.jobs
    number = func.count().label("jobs")
    counted = select(jobs.c.batch_id, jobs.c.outcome, number).where(jobs.c.batch_id.in_(batch_ids))
    return counted.group_by(jobs.c.batch_id, jobs.c.outcome)


def _one_by_one(tables: Tables, batch_ids: Sequence[str]) -> Select[Any]:
    return _counted(tables, batch_ids).where(is_counted(tables))


def _by_parts(tables: Tables, batch_ids: Sequence[str]) -> CompoundSelect[Any]:
    jobs, sums = tables.jobs, _sums(tables, batch_ids)
    alone = _counted(tables, batch_ids).where(jobs.c.part == _ALONE, jobs.c.part >= _ALONE, is_counted(tables))
    is_wrong = (jobs.c.part != _ALONE, one_of(jobs.c.outcome, WENT_WRONG))
    wrong = _counted(tables, batch_ids).where(*is_wrong).cte("wrong")
    went_wrong = select(func.coalesce(func.sum(wrong.c.jobs), _NONE)).where(wrong.c.batch_id == sums.c.batch_id)
    complete = sums.c.total - sums.c.unfinished - went_wrong.scalar_subquery()
    return union_all(
        alone,
        select(wrong.c.batch_id, wrong.c.outcome, wrong.c.jobs),
        select(sums.c.batch_id, word(JobState.COMPLETE), complete),
        select(sums.c.batch_id, null(), sums.c.unfinished),
    )


def _sums(tables: Tables, batch_ids: Sequence[str]) -> CTE:
    """How many jobs each batch has in parts, and how many of these have not ended."""
    parts, jobs = _parts(tables, batch_ids), tables.jobs.alias("one")
    here = (jobs.c.batch_id == parts.c.batch_id, jobs.c.part == parts.c.part, jobs.c.part >= _ALONE)
    mine = select(jobs.c.part).where(*here).correlate(parts)
    left = mine.where(jobs.c.outcome.is_(None)).with_only_columns(func.count()).scalar_subquery()
    size = parts.c.part % literal_column(str(SIZES))
    unfinished = case((exists(mine.where(jobs.c.outcome.is_not(None))), left), else_=size)
    sums = select(parts.c.batch_id, func.sum(size).label("total"), func.sum(unfinished).label("unfinished"))
    return sums.where(parts.c.part.is_not(None)).group_by(parts.c.batch_id).cte("sums")


def _parts(tables: Tables, batch_ids: Sequence[str]) -> CTE:
    """The parts of each batch, one found from the one before by a look at the index; the last of each is NULL."""
    batches = tables.batches
    first = _next(tables, "first", batches.c.id, _ALONE).correlate(batches).scalar_subquery()
    parts = select(batches.c.id.label("batch_id"), first.label("part")).where(batches.c.id.in_(batch_ids))
    every = parts.cte("parts", recursive=True)
    after = _next(tables, "after", every.c.batch_id, every.c.part).correlate(every).scalar_subquery()
    return every.union_all(select(every.c.batch_id, after).where(every.c.part.is_not(None)))


def _next(tables: Tables, name: str, batch_id: ColumnElement[Any], part: ColumnElement[int]) -> Select[Any]:
    jobs = tables.jobs.alias(name)
    mine = (jobs.c.batch_id == batch_id, jobs.c.part > part, jobs.c.part >= _ALONE)
    return select(jobs.c.part).where(*mine).order_by(jobs.c.part).limit(literal_column("1"))
