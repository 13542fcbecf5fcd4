"""Jobs made for cases that do without a broker: enrolled by the transitions, claimed by one statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import text, update

from benchmarks.services import World
from celery_flows.ids import new_id
from celery_flows.states import JobState, Kind
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago
from celery_flows.transitions.create import NewBatch, create
from celery_flows.transitions.enroll import NewJob, Share, enroll

#: The claim under which they run.
TOKEN: Final = "bench"

_CHUNK: Final = 1000


class Running(NamedTuple):
    """A job that runs."""

    id: str
    batch_id: str


def run_jobs(
    world: World,
    jobs: int,
    *,
    batches: int = 1,
    tolerate: str = "0",
    workers: Sequence[str] = (),
    age: float = 0.0,
    name: Callable[[int], str] | None = None,
) -> list[Running]:
    """Let there be nothing but so many running jobs, spread over batches.

    Args:
        workers: under whose leases they run; none: under nobody's.
        age: for how many seconds they have been running.
        name: makes their ids, where these matter.
    """
    world.clear()
    database = world.database
    made = [database.transact(_batch, database.tables, tolerate) for _ in range(batches)]
    running = [
        Running(new_id() if name is None else name(number), made[number % batches]) for number in range(jobs)
    ]
    database.transact(_enroll, database.tables, made, running)
    for number, one in enumerate(workers or [None]):
        ids = [job.id for job in running[number :: len(workers) or 1]]
        for first in range(0, len(ids), _CHUNK):
            database.transact(_claim, database.tables, ids[first : first + _CHUNK], one, age)
    tidy(database)
    return running


def call(job_id: str, batch_id: str) -> NewJob:
    """A captured call."""
    return NewJob(job_id, batch_id, Kind.TASK, "bench.nothing", "[1]", "{}", "{}")


def _batch(connection: Connection, tables: Tables, tolerate: str) -> str:
    batch = NewBatch(new_id(), "batch", None, "null", "[]", tolerate, None)
    create(connection, tables, batch)
    return batch.id


def _enroll(connection: Connection, tables: Tables, batches: Sequence[str], jobs: Sequence[Running]) -> None:
    counts = dict.fromkeys(batches, 0)
    for job in jobs:
        counts[job.batch_id] += 1
    calls = [call(*job) for job in jobs]
    chunks = [calls[first : first + _CHUNK] for first in range(0, len(calls), _CHUNK)]
    enroll(connection, tables, chunks, [Share(one, count, starts=True) for one, count in counts.items()])


def _claim(connection: Connection, tables: Tables, ids: Sequence[str], worker_id: str | None, age: float) -> None:
    """As the publisher's mark and a worker's claim leave a row."""
    jobs = tables.jobs
    values = {"state": JobState.RUNNING, "attempt": 1, "token": TOKEN, "worker_id": worker_id}
    since = {"publishing_since": None, "queue": "bench", "queued_at": seconds_ago(age)}
    statement = update(jobs).where(jobs.c.id.in_(ids)).values(**values, **since, started_at=seconds_ago(age))
    connection.execute(statement)


def tidy(database: Database) -> None:
    """Take away what the making left behind, which a run would have to step over, or would be delayed by."""
    said = {"postgresql": "VACUUM (ANALYZE) {}", "mysql": "ANALYZE TABLE {}", "sqlite": "ANALYZE {}"}
    with database.reading() as connection:
        for table in (database.tables.jobs, database.tables.batches):
            name = connection.dialect.identifier_preparer.format_table(table)
            connection.execute(text(said[database.dialect].format(name))).close()
