"""How often PostgreSQL is waited for, and how it finds what it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from graphs import start
from locks import on_postgresql
from scenes import add_callback, batch_row, call, enroll_jobs, make_batch, running_batch
from wire import round_trips

from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import batches
from celery_flows.store.database import Connection, Database
from celery_flows.store.given import FEW, SHORT
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import Published, mark_queued
from celery_flows.transitions.claim import claim
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.settle import settle

pytestmark = on_postgresql


@pytest.fixture
def trips(database: Database, tmp_path: Path) -> Iterator[Callable[[], int]]:
    """How often the server has been waited for since the last look."""
    with round_trips(database, tmp_path) as counted:
        seen = 0

        def since() -> int:
            nonlocal seen
            before, seen = seen, counted()
            return seen - before

        make_batch(database)
        assert since(), "nothing is heard"
        yield since


def test_a_job_waits_for_the_server_twice(database: Database, trips: Callable[[], int]) -> None:
    """For its claim, and for its outcome with the look behind it."""
    batch_id, jobs = running_batch(database, 12)
    claim(database, jobs.pop(), 1, "t")
    trips()
    for job in jobs[:-1]:
        claim(database, job, 1, "t")
        assert trips() == 1
        settle(database, Ending(job, JobState.COMPLETE, delivery=1, token="t"), batch_id=batch_id)
        assert trips() == 1


def test_the_end_of_a_batch_waits_three_times(database: Database, trips: Callable[[], int]) -> None:
    """To see that no job is left; to take hold of the batch and see it all; to write what follows, and commit."""
    batch_id, [job] = running_batch(database)
    add_callback(database, batch_id, "complete")
    settle(database, Ending(job, JobState.COMPLETE, delivery=1))
    trips()
    assert len(advance(database, batch_id)) == 1
    assert trips() == 3


def test_few_jobs_wait_three_times(database: Database, trips: Callable[[], int]) -> None:
    """Their batch once; then for their rows, for hold of their batch, and for the commit, also where they wait."""
    make_batch(database)
    assert trips() == 1
    for size in (1, FEW):
        batch_id = make_batch(database)
        trips()
        enroll_jobs(database, batch_id, size)
        assert trips() == 3
    trips()
    start(database, "a>b b>c", batch=new_id())
    assert trips() == 1 + 3


def test_many_jobs_and_long_ones_are_copied(database: Database, trips: Callable[[], int]) -> None:
    """Which waits for the time, to begin, and at its end."""
    batch_id = make_batch(database)
    for calls in ([call(batch_id) for _ in range(FEW + 1)], [call(batch_id)._replace(args=f"[{' ' * SHORT}]")]):
        trips()
        enroll_jobs(database, batch_id, calls)
        assert trips() == 6


def test_a_transaction_that_says_nothing_costs_nothing(database: Database, trips: Callable[[], int]) -> None:
    """It begins with its first statement, and has not begun without."""
    database.transact(lambda _: None)
    assert trips() == 0


def test_what_is_only_written_is_written_in_one_trip(database: Database, trips: Callable[[], int]) -> None:
    """Beginning, statements and commit."""
    batch_id = make_batch(database)
    trips()

    def write(connection: Connection) -> None:
        batches.start(connection, database.tables, batch_id)
        batches.decide(connection, database.tables, batch_id, BatchState.FAILED)

    database.transact(write)
    assert trips() == 1
    assert batch_row(database, batch_id).state == BatchState.FAILED


def test_a_plan_for_an_empty_table_is_not_kept(database: Database) -> None:
    """Marks find their jobs by id, where a process began with empty tables and there are no statistics yet."""
    read = sa.text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'flows_jobs'")

    def mark(connection: Connection, jobs: list[str]) -> int:
        before = connection.scalar(read) or 0
        mark_queued(connection, database.tables, [Published(job, 1) for job in jobs])
        return int(connection.scalar(read) or 0) - before

    for _ in range(15):
        _, jobs = running_batch(database, 10)
        database.transact(mark, jobs)
    running_batch(database, 10_000)
    assert database.transact(mark, jobs) == 0
