"""Streaming blocks: an open one keeps its batch unfinished, an abandoned one fails it."""

from __future__ import annotations

import pytest
from scenes import add_callback, count, enroll_jobs, fate_of, ids, make_batch, row, run_job, state_of

from celery_flows.errors import BatchFinished, EnrolmentAbandoned
from celery_flows.ids import new_id
from celery_flows.queries.progress import progress
from celery_flows.states import BatchState, JobState
from celery_flows.store.database import Database
from celery_flows.transitions.stream import abandon_stream, close_stream, open_stream


def open_block(database: Database, batch: str, *, starts: bool = True) -> str:
    """Open a streaming block."""
    block = new_id()
    database.transact(open_stream, database.tables, block, batch, starts=starts)
    return block


def test_an_open_block_keeps_its_batch_unfinished(database: Database) -> None:
    """All jobs so far have ended, but more may come; closing the block finishes the batch."""
    batch = make_batch(database)
    complete = add_callback(database, batch, "complete")
    block = open_block(database, batch)
    [job] = enroll_jobs(database, batch, 1, starts=False)
    assert run_job(database, job, batch) == []
    assert fate_of(database, batch) == (BatchState.RUNNING, False)
    assert ids(close_stream(database, block, batch)) == [complete]
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


def test_a_closed_block_leaves_no_trace(database: Database) -> None:
    """The block's row is no job: it counts nowhere while it is open, and goes when it closes, also twice."""
    batch = make_batch(database)
    block = open_block(database, batch)
    assert progress(database, batch).total == 0
    for _ in range(2):
        close_stream(database, block, batch)
    assert count(database) == 0


def test_a_block_without_jobs_completes_its_batch(database: Database) -> None:
    """An empty feed is one that is done."""
    batch = make_batch(database)
    close_stream(database, open_block(database, batch), batch)
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


def test_a_finished_batch_opens_no_block(database: Database) -> None:
    """Nothing is written where the batch is finished."""
    batch = make_batch(database)
    close_stream(database, open_block(database, batch), batch)
    with pytest.raises(BatchFinished):
        open_block(database, batch, starts=False)
    assert count(database) == 0


def test_a_share_is_judged_when_the_block_closes(database: Database) -> None:
    """While a block is open the total is unknown: half of the jobs so far failed, and of all it is too much."""
    batch = make_batch(database, tolerate="20%")
    failure = add_callback(database, batch, "failure")
    block = open_block(database, batch)
    jobs = enroll_jobs(database, batch, 4, starts=False)
    assert run_job(database, jobs[0], batch, JobState.FAILED) == []
    assert ids(close_stream(database, block, batch)) == [failure]
    assert fate_of(database, batch) == (BatchState.FAILED, False)


def test_a_number_is_judged_while_the_block_is_open(database: Database) -> None:
    """How many may fail does not depend on how many come."""
    batch = make_batch(database, tolerate="1")
    failure = add_callback(database, batch, "failure")
    open_block(database, batch)
    jobs = enroll_jobs(database, batch, 2, starts=False)
    assert run_job(database, jobs[0], batch, JobState.FAILED) == []
    assert run_job(database, jobs[1], batch, JobState.FAILED) == [failure]


@pytest.mark.parametrize("tolerate", ["0", "10", "50%"])
def test_an_abandoned_block_fails_its_batch_whatever_is_tolerated(database: Database, tolerate: str) -> None:
    """The batch is not what it was meant to be: it fails at once, and what was enrolled runs."""
    batch = make_batch(database, tolerate=tolerate)
    failure, settled = (add_callback(database, batch, event) for event in ("failure", "settled"))
    block = open_block(database, batch)
    [job] = enroll_jobs(database, batch, 1, starts=False)
    assert ids(abandon_stream(database, block, batch, "ValueError: line 7\x00")) == [failure]
    assert fate_of(database, batch) == (BatchState.FAILED, False)
    found = row(database, block)
    assert (found.state, found.error_class) == ("failed", "EnrolmentAbandoned")
    assert "ValueError: line 7\ufffd" in found.error_message
    assert run_job(database, job, batch) == [settled]


def test_abandoning_after_closing_is_nothing(database: Database) -> None:
    """A block ends once: abandoning a closed one changes nothing, and closing an abandoned one says so."""
    batch = make_batch(database)
    closed, abandoned = open_block(database, batch), open_block(database, batch)
    enroll_jobs(database, batch, 1, starts=False)
    close_stream(database, closed, batch)
    abandon_stream(database, closed, batch, "too late")
    assert fate_of(database, batch) == (BatchState.RUNNING, False)
    abandon_stream(database, abandoned, batch, "died")
    with pytest.raises(EnrolmentAbandoned):
        close_stream(database, abandoned, batch)
    assert state_of(database, abandoned) is JobState.FAILED


def test_the_abandoned_block_is_the_last_to_end(database: Database) -> None:
    """Where all its jobs have ended, abandoning the block finishes the batch too."""
    batch = make_batch(database, tolerate="5")
    armed = [add_callback(database, batch, event) for event in ("failure", "settled")]
    block = open_block(database, batch)
    assert ids(abandon_stream(database, block, batch, "died")) == sorted(armed)
    assert fate_of(database, batch) == (BatchState.FAILED, True)
