"""Progress of large batches: counted by parts, and the same as counted one by one."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa
from scenes import call, enroll_jobs, make_batch, run_job, running_batch

from celery_flows.progress import Progress
from celery_flows.queries.progress import outcomes, progress
from celery_flows.states import JobState, Kind
from celery_flows.store import counts
from celery_flows.store.bulk import add_jobs
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.claim import Holder, claim
from celery_flows.transitions.grow import new_join
from celery_flows.transitions.lease import renew
from celery_flows.transitions.reopen import Mode, reopen

PART = 10

ENDS = [*[JobState.COMPLETE] * 3, JobState.FAILED, JobState.CANCELLED]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten jobs be many."""
    monkeypatch.setattr(counts, "_LEAST", PART)


def one_by_one(database: Database, batch_id: str) -> Counter[str]:
    """The states of a batch's calls, row by row."""
    jobs = database.tables.jobs
    with database.reading() as connection:
        mine = sa.select(jobs.c.state).where(jobs.c.batch_id == batch_id, jobs.c.kind == Kind.TASK)
        return Counter(connection.scalars(mine))


def agrees(database: Database, batch_id: str) -> Progress:
    """Progress, which must be what the rows say."""
    found, states = progress(database, batch_id), one_by_one(database, batch_id)
    assert found.total == states.total() == found.complete + found.failed + found.cancelled + found.pending
    assert (found.complete, found.failed) == (states["complete"], states["failed"])
    assert found.cancelled == states["cancelled"] + states["skipped"]
    listed = outcomes(database, [batch_id])[batch_id]
    assert (listed["complete"], listed["failed"], listed[None]) == (found.complete, found.failed, found.pending)
    assert listed["cancelled"] + listed["skipped"] == found.cancelled
    return found


def parts_of(database: Database, batch_id: str) -> list[Any]:
    """The parts of a batch."""
    jobs = database.tables.jobs
    with database.reading() as connection:
        mine = sa.select(jobs.c.part).where(jobs.c.batch_id == batch_id).distinct()
        return [part for part in connection.scalars(mine) if part != counts.ALONE]


def test_counts_agree_as_jobs_end_in_any_order(database: Database) -> None:
    """Whatever has ended of each part, and whatever is enrolled without one."""
    chance = random.Random(3)
    batch_id = make_batch(database, tolerate="100%")
    jobs = enroll_jobs(database, batch_id, 3 * PART + 3, chunk=PART)
    assert len(parts_of(database, batch_id)) == 3
    agrees(database, batch_id)
    jobs += enroll_jobs(database, batch_id, PART + 1, starts=False, chunk=PART + 1)
    chance.shuffle(jobs)
    for job in jobs:
        run_job(
            database, job, batch_id, chance.choice([JobState.COMPLETE] * 3 + [JobState.FAILED, JobState.CANCELLED])
        )
        agrees(database, batch_id)


def test_counts_agree_in_order(database: Database) -> None:
    """Parts end one after another, as from a queue."""
    batch_id = make_batch(database)
    jobs = enroll_jobs(database, batch_id, 3 * PART, chunk=PART)
    for job in jobs:
        run_job(database, job, batch_id)
        agrees(database, batch_id)


def test_a_list_of_batches_is_counted_at_once(database: Database) -> None:
    """Each batch of a list has its own counts: with parts and without, empty and unknown, and others have none."""
    large, small = running_batch(database, 2 * PART + 1), running_batch(database, 3)
    other, empty = running_batch(database, PART), make_batch(database)
    for batch_id, jobs in (large, small, other):
        run_job(database, jobs[0], batch_id, JobState.FAILED)
        run_job(database, jobs[1], batch_id)
    found = outcomes(database, [large[0], small[0], empty, "nobody"])
    assert {batch_id: dict(+counted) for batch_id, counted in found.items()} == {
        large[0]: {"failed": 1, "complete": 1, None: 2 * PART - 1},
        small[0]: {"failed": 1, "complete": 1, None: 1},
        empty: {},
        "nobody": {},
    }
    assert outcomes(database, []) == {}


def test_what_is_taken_back_is_counted_again(database: Database) -> None:
    """A cancel ends parts as a whole, a retry opens them again."""
    batch_id, jobs = running_batch(database, 2 * PART)
    run_job(database, jobs[0], batch_id, JobState.FAILED)
    cancel(database, batch_id)
    assert agrees(database, batch_id).cancelled == 2 * PART - 1
    reopen(database, batch_id, Mode.ALL)
    assert agrees(database, batch_id).pending == 2 * PART


def test_running_jobs_of_a_part_are_those_of_workers(database: Database) -> None:
    """Also where none of their part has ended."""
    batch_id, jobs = running_batch(database, PART)
    renew(database, "worker", "host", 1, 60)
    for job in jobs[:2]:
        claim(database, job, 1, job, Holder("worker", 60))
    assert agrees(database, batch_id).running == 2
    assert agrees(database, batch_id).pending == PART


def test_a_chunk_makes_a_part_of_each_batch(database: Database) -> None:
    """Nested blocks are written in the same chunks; what is no job to a user is in no part."""
    outer, inner = make_batch(database), make_batch(database)

    calls = [call(batch) for _ in range(PART) for batch in (outer, inner)]

    def write(connection: Connection, tables: Tables) -> None:
        add_jobs(connection, tables, [[*calls, new_join(outer), call(outer, kind=Kind.BATCH), call(inner)]])

    database.transact(write, database.tables)
    assert (progress(database, outer).total, progress(database, inner).total) == (PART + 1, PART + 1)
    assert len(parts_of(database, outer)) == len(parts_of(database, inner)) == 1
    # From now on the rows of the part are counted.
    run_job(database, calls[0].id, outer)
    assert progress(database, outer).pending == PART


def test_a_part_goes_with_its_savepoint(database: Database) -> None:
    """What is rolled back is not counted."""
    batch_id, _ = running_batch(database, PART)

    def write(connection: Connection, tables: Tables) -> None:
        with connection.begin_nested() as savepoint:
            add_jobs(connection, tables, [[call(batch_id) for _ in range(PART)]])
            savepoint.rollback()

    database.transact(write, database.tables)
    assert agrees(database, batch_id).total == PART


def test_rows_of_older_code_are_counted(database: Database) -> None:
    """They are of no part."""
    batch_id, jobs = running_batch(database, 2 * PART)
    run_job(database, jobs[0], batch_id)

    def forget(connection: Connection, tables: Tables) -> None:
        connection.execute(
            tables.jobs.update().values(part=sa.text("DEFAULT") if database.dialect != "sqlite" else 0)
        )

    database.transact(forget, database.tables)
    assert agrees(database, batch_id).pending == 2 * PART - 1


@pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"], indirect=True)
def test_the_number_is_read_and_not_the_rows(database: Database) -> None:
    """Of a part of which nothing has ended; and of one that has ended, what is left and what went wrong."""
    batch_id, jobs = running_batch(database, PART)

    def lie(connection: Connection, tables: Tables) -> None:
        connection.execute(tables.jobs.update().values(part=tables.jobs.c.part + 7))

    database.transact(lie, database.tables)
    assert progress(database, batch_id).pending == PART + 7
    run_job(database, jobs[0], batch_id, JobState.FAILED)
    found = progress(database, batch_id)
    assert (found.pending, found.failed, found.complete) == (PART - 1, 1, 7)


@pytest.mark.parametrize("size", [1, counts._LEAST - 1, counts.SIZES])
def test_few_jobs_and_too_many_are_no_part(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part's number has room for so many."""
    monkeypatch.undo()
    assert counts.new_part(size) == counts.ALONE


def test_a_number_says_its_size() -> None:
    """The rest of it is chance, and no more than the column holds."""
    for size in (PART, 1000, counts.SIZES - 1):
        part = counts.new_part(size)
        assert part % counts.SIZES == size
        assert part < 2**63
