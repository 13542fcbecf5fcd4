"""Recover: what a crash left behind is found and repaired with the same transitions, once."""

from __future__ import annotations

import pytest
from scenes import (
    add_callback,
    age,
    batch_row,
    call,
    enroll_jobs,
    fate_of,
    ids,
    make_batch,
    row,
    run_job,
    running_batch,
    state_of,
    tally,
)

from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import jobs, publishing, tallies
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.tables import Tables
from celery_flows.transitions.claim import claim
from celery_flows.transitions.recover import cancel_expired, recover_batches, take_turn
from celery_flows.transitions.stream import open_stream

PAST, FUTURE = "2001-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"


def settle_and_die(
    database: Database, job: str, state: JobState = JobState.COMPLETE, batch: str | None = None
) -> None:
    """End a job, and crash between the commit and the probe."""
    claim(database, job, 1, "t")

    def write(connection: Connection, tables: Tables) -> None:
        assert jobs.end(connection, tables, Ending(job, state, delivery=1, token="t"))
        if batch is not None:
            tallies.add(connection, tables, batch, wrong=1)

    database.transact(write, database.tables)


# ---------------------------------------------------------------- stranded


def test_a_batch_whose_probe_was_lost_is_finished(database: Database) -> None:
    """The last job's worker died after it settled: the sweep decides, arms, and finds nothing the second time."""
    batch, [job] = running_batch(database)
    complete = add_callback(database, batch, "complete")
    settle_and_die(database, job)
    found, ready = recover_batches(database)
    assert (found, ids(ready)) == ([batch], [complete])
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)
    assert recover_batches(database) == ([], [])


def test_a_failure_whose_probe_was_lost_is_decided(database: Database) -> None:
    """A failed job makes its batch fail at once, also when nobody was left to say so."""
    batch, [job, _] = running_batch(database, 2)
    failure = add_callback(database, batch, "failure")
    settle_and_die(database, job, JobState.FAILED)
    found, ready = recover_batches(database)
    assert (found, ids(ready)) == ([batch], [failure])
    assert fate_of(database, batch) == (BatchState.FAILED, False)


def test_a_tolerance_exceeded_unseen_is_decided(database: Database) -> None:
    """The counts were committed with the job's outcome, so the sweep judges as the worker would have."""
    batch, ends = running_batch(database, 4, tolerate="1")
    failure = add_callback(database, batch, "failure")
    for job in ends[:2]:
        settle_and_die(database, job, JobState.FAILED, batch)
    assert ids(recover_batches(database)[1]) == [failure]


def test_a_batch_that_bears_its_failures_is_not_called_repaired(database: Database) -> None:
    """What runs on within its tolerance was not left behind: the sweep says nothing of it."""
    batch, [job, _] = running_batch(database, 2, tolerate="1")
    run_job(database, job, batch, JobState.FAILED)
    assert recover_batches(database) == ([], [])
    assert tally(database, batch) == (0, 1)


def test_every_batch_gets_its_turn(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that only look stranded don't keep the sweep from those behind them."""
    from celery_flows.transitions import recover

    monkeypatch.setattr(recover, "_LIMIT", 2)
    for _ in range(3):
        bearing, [job, _] = running_batch(database, 2, tolerate="1")
        run_job(database, job, bearing, JobState.FAILED)
    batch, [job] = running_batch(database)
    settle_and_die(database, job)
    assert recover_batches(database)[0] == [batch]


def test_what_goes_its_way_is_left_alone(database: Database) -> None:
    """Pending, running, streaming and finished batches are nobody's business."""
    make_batch(database)
    running_batch(database)
    finished, [job] = running_batch(database)
    run_job(database, job, finished)
    streaming = make_batch(database)
    database.transact(open_stream, database.tables, new_id(), streaming, starts=True)
    assert recover_batches(database) == ([], [])


def test_an_empty_block_whose_end_was_lost_is_finished(database: Database) -> None:
    """A started batch without jobs has nothing left to run."""
    batch = make_batch(database)
    enroll_jobs(database, batch, 0)
    assert recover_batches(database)[0] == [batch]
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


# ---------------------------------------------------------------- unreported


def test_a_child_whose_report_was_lost_ends_its_row(database: Database) -> None:
    """The child's last callback ended, and its worker died before telling the parent: the sweep tells."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    [job] = enroll_jobs(database, child, 1)
    callback = add_callback(database, child, "complete")
    run_job(database, job, child)
    assert recover_batches(database) == ([], [])
    claim(database, callback, 0, "t")
    database.run(jobs.complete, at_id=callback, at_delivery=0, at_token="t")
    assert recover_batches(database)[0] == [child]
    assert state_of(database, child) is JobState.COMPLETE
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)
    assert recover_batches(database) == ([], [])


def test_a_childs_failure_whose_news_was_lost_counts_in_the_parent(database: Database) -> None:
    """The child failed, and who should have told the parent died: the sweep fails the parent."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 1)
    enroll_jobs(database, child, 1)

    def fail(connection: Connection, tables: Tables) -> None:
        connection.execute(tables.batches.update().where(tables.batches.c.id == child).values(state="failed"))

    database.transact(fail, database.tables)
    assert recover_batches(database)[0] == [parent]
    assert fate_of(database, parent) == (BatchState.FAILED, False)


# ---------------------------------------------------------------- expired


def test_expired_jobs_that_nobody_claimed_are_cancelled(database: Database) -> None:
    """RabbitMQ drops such a message without a word, so the sweep ends its job; a claimed one runs on."""
    batch = make_batch(database)
    failure = add_callback(database, batch, "failure")
    calls = [call(batch, expires_at=moment) for moment in (PAST, PAST, FUTURE, None)]
    [over, claimed, later, never] = enroll_jobs(database, batch, calls)
    claim(database, claimed, 1, "t")
    found, ready = cancel_expired(database)
    assert (found, ids(ready)) == ([over], [failure])
    assert (state_of(database, over), row(database, over).error_message) == (JobState.CANCELLED, "expired")
    assert [state_of(database, job) for job in (claimed, later, never)] == ["running", "ready", "ready"]
    assert cancel_expired(database) == ([], [])


def test_an_expired_job_that_is_claimed_meanwhile_runs(database: Database) -> None:
    """A job published anew after it was found has another number, so the sweep's end does not reach it."""
    batch = make_batch(database)
    [job] = enroll_jobs(database, batch, [call(batch, expires_at=PAST)])
    with database.reading() as connection:
        [found] = jobs.expired(connection, database.tables, 10)
    claim(database, job, 1, "t")
    ending = Ending(found.id, JobState.CANCELLED, delivery=found.delivery)
    assert database.transact(jobs.end, database.tables, ending) is False
    assert state_of(database, job) is JobState.RUNNING


# ---------------------------------------------------------------- the sweep's turn


def test_one_process_sweeps_in_an_interval(database: Database) -> None:
    """Whoever asks first has the turn; the next comes an interval later."""
    assert [take_turn(database, 3600) for _ in range(3)] == [True, False, False]
    assert [take_turn(database, 0) for _ in range(2)] == [True, True]


def test_times_are_the_databases(database: Database) -> None:
    """What is so many seconds old is told by the database's clock, fractions included."""
    _, [job] = running_batch(database)
    age(database, "publishing_since", [job], 10)
    with database.reading() as connection:
        assert publishing.take_overdue(connection, database.tables, 10.5, 1) == []
        assert ids(publishing.take_overdue(connection, database.tables, 9.5, 1)) == [job]
    assert batch_row(database, row(database, job).batch_id).created_at.utcoffset().total_seconds() == 0
