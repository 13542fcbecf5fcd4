"""What is asked of a database to see whether all is well, on each of them."""

from __future__ import annotations

import sqlalchemy as sa
from scenes import add_callback, age, enroll_jobs, make_batch, run_job, running_batch

from celery_flows.queries import health
from celery_flows.states import JobState
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago
from celery_flows.store.workers import SWEEP, take_sweep_turn
from celery_flows.transitions.publish import Published, mark_published
from celery_flows.transitions.recover import take_overdue


def publish(database: Database, queue: str = "celery") -> list[str]:
    """Let everything that is ready be in a queue."""
    ready = take_overdue(database, 0, 100)
    mark_published(database, [Published(job.id, job.delivery, queue) for job in ready])
    return [job.id for job in ready]


def test_the_server(database: Database) -> None:
    """Its version, its clock, and that our transactions are as the protocol needs them, whatever its default."""
    found = health.server(database)
    assert any(one.isdigit() for one in found.version)
    assert 0 <= found.answer < 10
    # The same machine's.
    assert abs(found.ahead) < 10
    assert found.isolation == ("WAL" if database.dialect == "sqlite" else "READ COMMITTED")
    assert (found.default_isolation is None) == (database.dialect == "sqlite")
    assert (found.is_read_only, found.logs_statements) == (False, False)


def test_nothing_is_due_where_nothing_is(database: Database) -> None:
    """A database without rows."""
    none = health.Due(0, 0.0)
    assert health.upkeep(database) == health.Upkeep(None, 0, none, none, none, {}, [])
    assert health.tasks(database) == {}


def test_what_is_due(database: Database) -> None:
    """Since when the first job is to be published, and since when the first waits in each queue."""
    _, [first, second] = running_batch(database, 2)
    age(database, "publishing_since", [first], 100)
    found = health.upkeep(database)
    assert (found.unfinished, found.publishing.number, round(found.publishing.seconds, -1)) == (1, 2, 100)
    publish(database)
    running_batch(database, 3)
    publish(database, "reports")
    age(database, "queued_at", [second], 50)
    # One that is due later waits for nobody yet.
    age(database, "queued_at", [first], -500)
    found = health.upkeep(database)
    assert (found.publishing.number, {queue: due.number for queue, due in found.queues.items()}) == (
        0,
        {"celery": 1, "reports": 3},
    )
    assert round(found.queues["celery"].seconds, -1) == 50


def test_a_job_that_runs_does_not_wait(database: Database) -> None:
    """Nor one that has ended."""
    batch, [first, second] = running_batch(database, 2)
    publish(database)
    run_job(database, first, batch)
    database.transact(_set_state, database.tables, second, JobState.RUNNING)
    assert health.upkeep(database).queues == {}


def test_callbacks_that_are_due(database: Database) -> None:
    """Those whose event has come; others wait themselves."""
    batch, [job] = running_batch(database, 1)
    add_callback(database, batch, "complete")
    assert health.upkeep(database).callbacks.number == 0
    run_job(database, job, batch)
    found = health.upkeep(database)
    # Its event has come, and its row is to be published as any other.
    assert (found.callbacks.number, found.publishing.number, found.unfinished) == (1, 1, 0)


def test_batches_that_nobody_has_decided(database: Database) -> None:
    """Looked at twice, as what is just being decided looks the same."""
    batch, jobs = running_batch(database, 1)
    database.transact(_set_state, database.tables, jobs[0], JobState.COMPLETE)
    assert health.upkeep(database).stranded == [batch]


def test_the_tasks_that_unfinished_work_calls(database: Database) -> None:
    """Of jobs that have not ended, and of callbacks that wait or are due; not of what is done."""
    batch, [done, _] = running_batch(database, 2)
    run_job(database, done, batch)
    add_callback(database, batch, "settled")
    make_batch(database)
    finished, [job] = running_batch(database, 1)
    run_job(database, job, finished)
    enroll_jobs(database, batch, 1, starts=False)
    assert health.tasks(database) == {"shop.score": 2, "shop.tell": 1}


def test_the_last_sweep(database: Database) -> None:
    """By the database's clock."""
    assert database.transact(take_sweep_turn, database.tables, 15)
    workers = database.tables.workers
    earlier = workers.update().where(workers.c.id == SWEEP).values(heartbeat_at=seconds_ago(30))
    database.transact(lambda connection: connection.execute(earlier))
    swept = health.upkeep(database).swept
    assert swept is not None
    assert round(swept, -1) == 30


def _set_state(connection: Connection, tables: Tables, job_id: str, state: JobState) -> None:
    ended = {} if state is JobState.RUNNING else {"ended_at": sa.func.current_timestamp()}
    connection.execute(tables.jobs.update().where(tables.jobs.c.id == job_id).values(state=state, **ended))
