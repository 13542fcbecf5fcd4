"""What tests of transitions say to a database, in the words of the glossary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from celery_flows.ids import new_id
from celery_flows.states import BatchState, Event, JobState, Kind
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow
from celery_flows.transitions.claim import claim
from celery_flows.transitions.create import NewBatch, adopt, create
from celery_flows.transitions.enroll import NewJob, Share, enroll
from celery_flows.transitions.listen import NewCallback, listen
from celery_flows.transitions.settle import settle


def call(batch_id: str, job_id: str | None = None, kind: str = Kind.TASK, expires_at: str | None = None) -> NewJob:
    """A captured call."""
    task = "shop.score" if kind == Kind.TASK else ""
    return NewJob(job_id or new_id(), batch_id, kind, task, "[1]", "{}", "{}", expires_at)


def make_batch(database: Database, *, tolerate: str = "0", parent: str | None = None, **values: Any) -> str:
    """Create a batch, and adopt it where it has a parent."""
    batch_id = str(values.pop("id", None) or new_id())
    texts = {"kind": "batch", "description": None, "context": "null", "tags": "[]"} | values
    database.transact(create, database.tables, NewBatch(id=batch_id, tolerate=tolerate, parent_id=parent, **texts))
    if parent is not None:
        database.transact(adopt, database.tables, parent, batch_id)
    return batch_id


def enroll_jobs(
    database: Database, batch_id: str, jobs: int | Iterable[NewJob], *, starts: bool = True, chunk: int = 1000
) -> list[str]:
    """Enroll a block of calls, given or so many."""
    calls = [call(batch_id) for _ in range(jobs)] if isinstance(jobs, int) else list(jobs)
    chunks = [calls[first : first + chunk] for first in range(0, len(calls), chunk)]
    database.transact(enroll, database.tables, chunks, [Share(batch_id, len(calls), starts)])
    return [one.id for one in calls]


def running_batch(database: Database, jobs: int = 1, **batch: Any) -> tuple[str, list[str]]:
    """A batch that runs, and the ids of its jobs."""
    batch_id = make_batch(database, **batch)
    return batch_id, enroll_jobs(database, batch_id, jobs)


def add_callback(database: Database, batch_id: str, event: str) -> str:
    """Add a callback that must wait for its event."""
    callback_id, ready = listen_to(database, batch_id, event)
    assert ready == []
    return callback_id


def listen_to(database: Database, batch_id: str, event: str) -> tuple[str, list[ReadyJob]]:
    """Add a callback; its id, and what became ready."""
    callback = NewCallback(new_id(), batch_id, Event(event), "shop.tell", "[]", "{}", "{}")
    return callback.id, database.transact(listen, database.tables, callback)


def run_job(
    database: Database,
    job_id: str,
    batch_id: str | None = None,
    state: JobState = JobState.COMPLETE,
    *,
    announces: str | None = None,
) -> list[str]:
    """Claim a job and settle it; the callbacks that became ready."""
    delivery = row(database, job_id).delivery
    assert claim(database, job_id, delivery, "worker") is not None
    ending = Ending(job_id, state, delivery=delivery, token="worker")
    return ids(settle(database, ending, batch_id=batch_id, announces_id=announces))


def row(database: Database, job_id: str) -> Any:
    """A job's row."""
    return _one(database, lambda tables: tables.jobs, job_id)


def batch_row(database: Database, batch_id: str) -> Any:
    """A batch's row."""
    return _one(database, lambda tables: tables.batches, batch_id)


def state_of(database: Database, job_id: str) -> JobState:
    """Where a job stands."""
    return JobState(row(database, job_id).state)


def fate_of(database: Database, batch_id: str) -> tuple[BatchState, bool]:
    """Where a batch stands, and whether it is finished."""
    found = batch_row(database, batch_id)
    return BatchState(found.state), found.settled_at is not None


def tally(database: Database, batch_id: str) -> tuple[int, int]:
    """What is counted of a batch: all its jobs, and those that went wrong."""
    tallies = database.tables.tallies
    with database.reading() as connection:
        found = connection.execute(sa.select(tallies).where(tallies.c.batch_id == batch_id)).all()
    return sum(one.total for one in found), sum(one.wrong for one in found)


def count(database: Database, noun: str = "jobs") -> int:
    """How many rows a table has."""
    with database.reading() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(getattr(database.tables, noun))) or 0


def age(database: Database, column: str, job_ids: Sequence[str], seconds: float) -> None:
    """Let a moment of some jobs be so long ago."""

    def write(connection: Connection, tables: Tables) -> None:
        now = connection.scalar(sa.select(utcnow()))
        statement = tables.jobs.update().where(tables.jobs.c.id.in_(job_ids))
        connection.execute(statement.values({column: now - timedelta(seconds=seconds)}))

    database.transact(write, database.tables)


def ids(ready: Iterable[ReadyJob]) -> list[str]:
    """The ids of jobs to publish."""
    return [job.id for job in ready]


def _one(database: Database, table: Callable[[Tables], sa.Table], row_id: str) -> Any:
    found = table(database.tables)
    with database.reading() as connection:
        return connection.execute(sa.select(found).where(found.c.id == row_id)).one()
