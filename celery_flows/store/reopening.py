"""What is said to the database to open a new round of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, case, insert, select, update

from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store.jobs import ReadyJob
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow

_FRESH: dict[str, Any] = {"wrong": 0, "losses": 0, "ended_at": None, "token": None}


def undo(connection: Connection, tables: Tables, batch_id: str, outcomes: Sequence[JobState]) -> None:
    """Make the jobs of a batch that ended so ready again, under the next delivery number."""
    jobs = tables.jobs
    statement = (
        update(jobs)
        .where(jobs.c.batch_id == batch_id, one_of(jobs.c.outcome, outcomes), jobs.c.kind == Kind.TASK)
        .values(
            state=JobState.READY,
            delivery=jobs.c.delivery + 1,
            publishing_since=utcnow(),
            expires_at=None,
            **_FRESH,
        )
    )
    connection.execute(statement)


def start_round(connection: Connection, tables: Tables, batch_id: str) -> None:
    """Set a batch running again, undecided, in its next round. An abandoned block stays in its round."""
    batches, jobs = tables.batches, tables.jobs
    statement = update(batches).where(batches.c.id == batch_id)
    connection.execute(
        statement.values(state=BatchState.RUNNING, round=batches.c.round + 1, completed_at=None, settled_at=None)
    )
    abandoned = update(jobs).where(jobs.c.batch_id == batch_id, jobs.c.kind == Kind.BLOCK)
    connection.execute(abandoned.where(jobs.c.outcome.is_not(None)).values(wrong=0))


def wait_for_child(connection: Connection, tables: Tables, child_id: str) -> None:
    """Open the row that stands for a child batch in its parent."""
    jobs = tables.jobs
    state = case((jobs.c.state == word(JobState.WAITING), jobs.c.state), else_=word(JobState.RUNNING))
    connection.execute(update(jobs).where(jobs.c.id == child_id).values(state=state, **_FRESH))


def children(connection: Connection, tables: Tables, batch_id: str, states: Sequence[BatchState]) -> list[str]:
    """The finished children of a batch in these states."""
    batches = tables.batches
    statement = select(batches.c.id).where(batches.c.parent_id == batch_id, one_of(batches.c.state, states))
    return list(connection.scalars(statement.where(batches.c.settled_at.is_not(None)).order_by(batches.c.id)))


def callbacks(connection: Connection, tables: Tables, batch_id: str, round_: int) -> list[Any]:
    """The callbacks of one round of a batch."""
    jobs = tables.jobs
    statement = select(jobs).where(jobs.c.announces_id == batch_id, jobs.c.round == round_)
    return list(connection.execute(statement.order_by(jobs.c.id)))


def repeat_callback(connection: Connection, tables: Tables, callback: Any, job_id: str, round_: int) -> None:
    """Write a callback again, waiting, for a later round."""
    kept = ("announces_id", "kind", "event", "task", "args", "kwargs", "options")
    values = {name: getattr(callback, name) for name in kept}
    connection.execute(
        insert(tables.jobs).values(
            id=job_id,
            round=round_,
            state=JobState.WAITING,
            delivery=0,
            attempt=0,
            losses=0,
            wrong=0,
            enrolled_at=utcnow(),
            **values,
        )
    )


def ready_after(connection: Connection, tables: Tables, batch_id: str, after: str, limit: int) -> list[ReadyJob]:
    """The next ready jobs of a batch behind an id, for the publisher of a new round."""
    jobs = tables.jobs
    statement = (
        select(*(jobs.c[name] for name in ReadyJob._fields))
        .where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None), jobs.c.id > after)
        .where(jobs.c.state == JobState.READY)
        .order_by(jobs.c.id)
        .limit(limit)
    )
    return [ReadyJob(*row) for row in connection.execute(statement)]
