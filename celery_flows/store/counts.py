"""Counting the jobs of a batch.

A part is what was enrolled in one chunk; its number ends with how many jobs that were. So where nothing of a part
has ended, or all of it, its jobs need not be looked at (decision "parts").
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Subquery,
    and_,
    case,
    exists,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)

from celery_flows.states import JobState, Kind
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import PARTIAL, Tables
from celery_flows.store.types import utcnow

#: Jobs fewer than these are counted one by one.
_LEAST: Final = 100

#: What a part's number says of its size; the rest of it is chance.
SIZES: Final = 1 << 20
_CHANCE_BITS: Final = 42

#: The outcomes of jobs that went wrong.
WENT_WRONG: Final = (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)


#: The part of what is counted one by one.
ALONE: Final = 0


def new_part(size: int) -> int:
    """A number for so many jobs that are enrolled together; few are counted one by one."""
    return secrets.randbits(_CHANCE_BITS) * SIZES + size if _LEAST <= size < SIZES else ALONE


def by_state(connection: Connection, tables: Tables, batch_id: str) -> Sequence[Any]:
    """A batch's times, now, and its jobs by state, as far as they matter: a state may have several rows, or None.

    Of those that have not ended, only those that a worker runs are told apart where they are of a part.
    """
    batches, numbers = tables.batches, _numbers(tables, batch_id, connection.dialect.name)
    return connection.execute(
        select(batches.c.started_at, batches.c.settled_at, utcnow().label("now"), numbers.c.state, numbers.c.jobs)
        .select_from(batches.outerjoin(numbers, true()))
        .where(batches.c.id == batch_id)
    ).all()


def _numbers(tables: Tables, batch_id: str, dialect: str) -> Subquery:
    by_parts = _by_parts if dialect in PARTIAL else _one_by_one
    return by_parts(tables, batch_id).subquery("numbers")


def _one_by_one(tables: Tables, batch_id: str) -> Select[Any]:
    jobs = tables.jobs
    counted = select(jobs.c.state.label("state"), func.count().label("jobs"))
    return counted.where(jobs.c.batch_id == batch_id, is_counted(tables)).group_by(jobs.c.state)


def _by_parts(tables: Tables, batch_id: str) -> CompoundSelect[Any]:
    jobs, sums = tables.jobs, _sums(tables, batch_id)
    # Said so that nobody goes over the index of parts for it.
    mine, is_of_part = jobs.c.batch_id == batch_id, jobs.c.part != literal_column(str(ALONE))
    number = func.count().label("jobs")
    none: ColumnElement[int] = literal_column("0")
    by_itself = and_(jobs.c.part == literal_column(str(ALONE)), _by_part(jobs))
    alone = select(jobs.c.state.label("state"), number).where(mine, by_itself, is_counted(tables))
    is_wrong = and_(mine, is_of_part, one_of(jobs.c.outcome, WENT_WRONG))
    wrong = select(jobs.c.outcome, number).where(is_wrong).group_by(jobs.c.outcome).cte("wrong")
    went_wrong = select(func.coalesce(func.sum(wrong.c.jobs), none)).scalar_subquery()
    running = select(_running(tables, batch_id)).scalar_subquery()
    return union_all(
        alone.group_by(jobs.c.state),
        select(wrong.c.outcome, wrong.c.jobs),
        select(word(JobState.COMPLETE), sums.c.total - sums.c.unfinished - went_wrong),
        select(word(JobState.RUNNING), running),
        select(word(JobState.QUEUED), sums.c.unfinished - running),
    )


def _running(tables: Tables, batch_id: str) -> CTE:
    """How many jobs in parts a worker runs: found among all that run, which are few, so not by their batch."""
    jobs = tables.jobs
    is_here = (jobs.c.batch_id.concat(word("")) == batch_id, jobs.c.part != literal_column(str(ALONE)))
    # All ids there are. PostgreSQL takes a range for few rows before it has statistics, and goes by the index; of
    # what is not NULL it would expect nearly all, and read the whole table.
    is_any = (jobs.c.worker_id >= word(""), jobs.c.worker_id < word("~"))
    is_run = (*is_any, jobs.c.state == word(JobState.RUNNING))
    return select(func.count().label("jobs")).select_from(jobs).where(*is_run, *is_here).cte("running")


def _sums(tables: Tables, batch_id: str) -> CTE:
    """How many jobs a batch has in parts, and how many of these have not ended."""
    parts = _parts(tables, batch_id)
    jobs = tables.jobs.alias("one")
    mine = _of_part(jobs, parts, batch_id)
    has_begun = exists(mine.where(jobs.c.outcome.is_not(None)))
    left = mine.where(jobs.c.outcome.is_(None)).with_only_columns(func.count())
    size = parts.c.part % literal_column(str(SIZES))
    unfinished = case((has_begun, left.scalar_subquery()), else_=size)
    total, open_ = (func.coalesce(func.sum(one), literal_column("0")) for one in (size, unfinished))
    sums = select(total.label("total"), open_.label("unfinished")).where(parts.c.part.is_not(None))
    return sums.cte("sums")


def _parts(tables: Tables, batch_id: str) -> CTE:
    """The parts of a batch, each found from the one before by a look at the index; the last is NULL."""
    jobs, after = tables.jobs.alias("first"), tables.jobs.alias("after")
    first = _least(jobs).where(jobs.c.batch_id == batch_id, jobs.c.part > literal_column(str(ALONE)))
    parts = select(first.scalar_subquery().label("part")).cte("parts", recursive=True)
    following = _least(after).where(after.c.batch_id == batch_id, after.c.part > parts.c.part).correlate(parts)
    return parts.union_all(select(following.scalar_subquery()).where(parts.c.part.is_not(None)))


def _least(jobs: Any) -> Select[Any]:
    return select(jobs.c.part).where(_by_part(jobs)).order_by(jobs.c.part).limit(literal_column("1"))


def _of_part(jobs: Any, parts: CTE, batch_id: str) -> Select[Any]:
    mine = (jobs.c.batch_id == batch_id, jobs.c.part == parts.c.part, _by_part(jobs))
    return select(jobs.c.part).where(*mine).correlate(parts)


def _by_part(jobs: Any) -> ColumnElement[bool]:
    """What is true of every row, and has to be said to go over the index of parts."""
    said: ColumnElement[bool] = jobs.c.part >= literal_column(str(ALONE))
    return said


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
