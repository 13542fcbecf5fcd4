"""Finalize: the fate, finished, and the callbacks of both."""

from __future__ import annotations

import pytest
from scenes import (
    add_callback,
    batch_row,
    enroll_jobs,
    fate_of,
    listen_to,
    make_batch,
    row,
    run_job,
    running_batch,
    state_of,
    tally,
)

from celery_flows.errors import BatchFinished, BatchNotFound
from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store.database import Database
from celery_flows.transitions.finalize import advance

COMPLETE, FAILED, CANCELLED = JobState.COMPLETE, JobState.FAILED, JobState.CANCELLED

EVENTS = ("complete", "failure", "settled")


def test_the_last_job_completes_the_batch(database: Database) -> None:
    """Complete and settled are armed together, by the last job only; failure will not come and is skipped."""
    batch, [first, last] = running_batch(database, 2)
    complete, failure, settled = (add_callback(database, batch, event) for event in EVENTS)
    assert run_job(database, first, batch) == []
    assert fate_of(database, batch) == (BatchState.RUNNING, False)
    assert run_job(database, last, batch) == sorted([complete, settled])
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)
    assert [state_of(database, one) for one in (complete, failure, settled)] == ["ready", "skipped", "ready"]
    found = batch_row(database, batch)
    assert found.started_at <= found.completed_at <= found.settled_at


@pytest.mark.parametrize("outcome", [FAILED, CANCELLED])
def test_the_first_job_that_goes_wrong_fails_the_batch_at_once(database: Database, outcome: JobState) -> None:
    """Failure is armed while jobs still run, settled after the last, complete never."""
    batch, [first, last] = running_batch(database, 2)
    complete, failure, settled = (add_callback(database, batch, event) for event in EVENTS)
    assert run_job(database, first, batch, outcome) == [failure]
    assert fate_of(database, batch) == (BatchState.FAILED, False)
    assert state_of(database, settled) is JobState.WAITING
    assert run_job(database, last, batch) == [settled]
    assert fate_of(database, batch) == (BatchState.FAILED, True)
    assert state_of(database, complete) is JobState.SKIPPED


def test_more_failures_change_no_fate(database: Database) -> None:
    """A batch fails once: the second job that goes wrong arms nothing."""
    batch, jobs = running_batch(database, 3)
    failure = add_callback(database, batch, "failure")
    assert run_job(database, jobs[0], batch, FAILED) == [failure]
    decided = batch_row(database, batch).completed_at
    assert run_job(database, jobs[1], batch, FAILED) == []
    assert batch_row(database, batch).completed_at == decided


def test_the_only_job_that_fails_decides_and_finishes_at_once(database: Database) -> None:
    """Failure and settled are armed by the same commit."""
    batch, [job] = running_batch(database)
    armed = [add_callback(database, batch, event) for event in ("failure", "settled")]
    assert run_job(database, job, batch, FAILED) == sorted(armed)


def test_several_callbacks_of_an_event_are_all_armed(database: Database) -> None:
    """Each callback is a job of its own, about to be published, outside the batch."""
    batch, [job] = running_batch(database)
    armed = [add_callback(database, batch, "complete") for _ in range(3)]
    assert run_job(database, job, batch) == sorted(armed)
    found = row(database, armed[0])
    assert (found.batch_id, found.announces_id, found.delivery) == (None, batch, 0)
    assert found.publishing_since is not None


@pytest.mark.parametrize(
    ("tolerate", "jobs", "allowed"), [("2", 6, 2), ("34%", 6, 2), ("100%", 3, 3), ("1%", 9, 0)]
)
def test_a_batch_bears_what_it_tolerates(database: Database, tolerate: str, jobs: int, allowed: int) -> None:
    """As many as tolerated may go wrong, failed and cancelled alike, and the batch completes."""
    batch, ids = running_batch(database, jobs, tolerate=tolerate)
    complete = add_callback(database, batch, "complete")
    for number, job in enumerate(ids[:allowed]):
        run_job(database, job, batch, (FAILED, CANCELLED)[number % 2])
        assert fate_of(database, batch)[0] in (BatchState.RUNNING, BatchState.COMPLETE)
    armed = [callback for job in ids[allowed:] for callback in run_job(database, job, batch)]
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)
    assert state_of(database, complete) is JobState.READY
    assert armed == ([complete] if allowed < jobs else [])


@pytest.mark.parametrize(("tolerate", "jobs", "allowed"), [("2", 6, 2), ("34%", 6, 2), ("1%", 9, 0)])
def test_one_more_than_tolerated_fails_the_batch_at_once(
    database: Database, tolerate: str, jobs: int, allowed: int
) -> None:
    """The job that exceeds the tolerance arms failure, while others still run."""
    batch, ids = running_batch(database, jobs, tolerate=tolerate)
    failure = add_callback(database, batch, "failure")
    for job in ids[:allowed]:
        assert run_job(database, job, batch, FAILED) == []
    assert run_job(database, ids[allowed], batch, CANCELLED) == [failure]
    assert fate_of(database, batch) == (BatchState.FAILED, False)
    assert tally(database, batch)[1] == allowed + 1


def test_a_share_grows_with_the_batch(database: Database) -> None:
    """A share is one of all jobs known: a block that comes later raises what is tolerated."""
    batch, [job] = running_batch(database, 1, tolerate="50%")
    enroll_jobs(database, batch, 1, starts=False)
    assert run_job(database, job, batch, FAILED) == []
    assert fate_of(database, batch) == (BatchState.RUNNING, False)


def test_an_empty_block_completes_its_batch(database: Database) -> None:
    """Nothing to wait for is everything done."""
    batch = make_batch(database)
    complete = add_callback(database, batch, "complete")
    enroll_jobs(database, batch, 0)
    assert [job.id for job in advance(database, batch)] == [complete]
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


def test_a_pending_batch_is_not_finished(database: Database) -> None:
    """Before its first block a batch has no job left to run either, but it has not begun."""
    batch = make_batch(database)
    assert advance(database, batch, went_wrong=True) == []
    assert fate_of(database, batch) == (BatchState.PENDING, False)


def test_deciding_again_decides_nothing(database: Database) -> None:
    """Advance bears being called twice, also for a batch that is not there."""
    batch, [job] = running_batch(database)
    run_job(database, job, batch)
    before = batch_row(database, batch)
    assert advance(database, batch, went_wrong=True) == []
    assert advance(database, new_id(), went_wrong=True) == []
    assert batch_row(database, batch) == before


# ---------------------------------------------------------------- listen


def test_a_callback_waits_for_its_event(database: Database) -> None:
    """It is a waiting row that announces the batch."""
    batch = make_batch(database)
    callback = row(database, add_callback(database, batch, "complete"))
    assert (callback.kind, callback.event, callback.state, callback.announces_id) == (
        *("callback", "complete", "waiting"),
        batch,
    )


def test_a_failure_that_has_come_is_announced_at_once(database: Database) -> None:
    """A callback added after the failure is ready in the same transaction; the others still wait."""
    batch, [first, _] = running_batch(database, 2)
    run_job(database, first, batch, FAILED)
    failure, ready = listen_to(database, batch, "failure")
    assert [job.id for job in ready] == [failure]
    assert state_of(database, failure) is JobState.READY
    assert listen_to(database, batch, "settled")[1] == []


def test_a_finished_batch_announces_nothing_new(database: Database) -> None:
    """No event will come, so the callback is refused, and not written."""
    batch, [job] = running_batch(database)
    run_job(database, job, batch)
    with pytest.raises(BatchFinished):
        listen_to(database, batch, "settled")
    with pytest.raises(BatchNotFound):
        listen_to(database, "nonsense", "settled")
    with database.reading() as connection:
        assert connection.execute(database.tables.jobs.select()).one().id == job
