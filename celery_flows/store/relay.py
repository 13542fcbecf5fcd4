"""What is said to the database where a job ends, and what waits for it alone begins.

A statement sees what was there when it began, so it can't tell by itself what others that end at this moment
leave to it. But what waits for one job only is nobody else's to let go. So the job's end, and theirs who wait for
it alone, are one statement here, where by the general way (`edges`) they are nine. Whatever is not as simple as
that, or has changed since the statement began, is left to the general way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.sql.selectable import NamedFromClause

from celery_flows.states import Condition, JobState, Kind
from celery_flows.store.edges import becoming_ready
from celery_flows.store.jobs import completing, is_held
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow

#: The databases in which a statement can write several rows of its own choice, and give them back.
RELAYING: Final = ("postgresql",)

#: Jobs let go by one statement; what is left is let go in the general way.
_MOST: Final = 500


class Relayed(NamedTuple):
    """What came of it."""

    #: Jobs to publish.
    ready: list[ReadyJob]
    #: Whether others are left that wait for the job, and not for it alone.
    is_left: bool
    #: What a look for jobs that are left has found right behind it; None: nobody looked.
    seen: list[Any] | None = None

    @classmethod
    def stored(cls, tables: Tables, rows: Sequence[Sequence[Any]]) -> Relayed | None:
        """Read it from the statement's rows; None: the job has not ended by it."""
        if not rows:
            return None
        ready = [ReadyJob.stored(tables, row[1:]) for row in rows if row[1] is not None]
        return cls(ready, bool(rows[0][0]))


def relay(tables: Tables, dialect: str) -> Select[Any]:
    """End a running job as complete, as `jobs.complete` does, and let go what waits for it alone.

    A row for each job let go, or one of NULLs; each says before that how many others have waited.
    """
    jobs = tables.jobs
    mine = _mine(tables)
    released = _let_go(tables, _alone(tables, mine))
    closed = _close(tables, mine)
    left = _count(closed) - _count(released)
    is_releasing = case((left > literal_column("0"), utcnow()))
    ended = completing(tables, jobs.c.id == mine.c.id, is_releasing).returning(left.label("others")).cte("ended")
    return select(ended.c.others, *released.c).select_from(ended.outerjoin(released, true()))


def _mine(tables: Tables) -> CTE:
    """The job, locked, if it is still held, and nobody has written its row since the statement began.

    Who lets others wait for it, or lets what waits for it wait for more, writes its row.
    """
    held = tables.jobs.alias("held")
    is_mine = is_held(replace(tables, jobs=held))  # type: ignore[arg-type] # an alias has a table's columns
    found = select(held.c.id).where(held.c.id == bindparam("at_id"), is_mine, _is_as_seen(tables, held))
    return found.where(held.c.blocks == literal_column("1")).with_for_update().cte("mine")


def _alone(tables: Tables, mine: CTE) -> CTE:
    """Calls that wait for the job alone, for its success or for any end, locked where nobody else holds them."""
    edges, one, other = tables.edges, tables.jobs.alias("one"), tables.edges.alias("other")
    waits_for_more = exists().where(other.c.dependent_id == one.c.id, other.c.job_id != mine.c.id)
    found = (
        select(one.c.id)
        .select_from(mine.join(edges, edges.c.job_id == mine.c.id).join(one, one.c.id == edges.c.dependent_id))
        .where(one.c.state == word(JobState.WAITING), one_of(one.c.kind, (Kind.TASK, Kind.PLAN)))
        .where(one_of(edges.c.condition, (Condition.COMPLETE, Condition.SETTLED)), one.c.takes.is_(None))
        .where(~waits_for_more, _is_as_seen(tables, one))
        .order_by(one.c.id)
        .limit(literal_column(str(_MOST)))
    )
    # Who holds one of them may wait for the job itself: he isn't waited for, but left to the general way.
    return found.with_for_update(of=one, skip_locked=True).cte("alone")


def _is_as_seen(tables: Tables, job: NamedFromClause) -> ColumnElement[bool]:
    """Whether a row that is to be locked is the one that the statement saw at first: xmin says who wrote it.

    After it has waited for a lock, PostgreSQL asks again about the row as it is then, but reads others as it did.
    """
    seen = tables.jobs.alias(f"seen_{job.name}")
    at_first: ColumnElement[Any] = literal_column(f"{seen.name}.xmin")
    now: ColumnElement[Any] = literal_column(f"{job.name}.xmin")
    return now == select(at_first).select_from(seen).where(seen.c.id == job.c.id).scalar_subquery()


def _let_go(tables: Tables, alone: CTE) -> CTE:
    released = becoming_ready(tables, tables.jobs.c.id == alone.c.id)
    return released.returning(*ReadyJob.columns(tables)).cte("released")


def _close(tables: Tables, mine: CTE) -> CTE:
    edges = tables.edges
    closed = update(edges).where(edges.c.job_id == mine.c.id).values(is_open=literal_column("0"))
    return closed.returning(edges.c.dependent_id).cte("closed")


def _count(cte: CTE) -> ColumnElement[int]:
    return select(func.count()).select_from(cte).scalar_subquery()
