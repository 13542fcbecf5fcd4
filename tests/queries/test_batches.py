"""Batches and their progress as they are shown."""

from __future__ import annotations

from datetime import timedelta

import pytest
from scenes import enroll_jobs, make_batch, run_job, running_batch

from celery_flows.codec import encode
from celery_flows.errors import BatchNotFound
from celery_flows.ids import new_id
from celery_flows.queries.batches import batch, batches
from celery_flows.queries.progress import progress
from celery_flows.states import BatchState, JobState
from celery_flows.store.database import Database
from celery_flows.transitions.claim import claim
from celery_flows.transitions.create import NewBatch, create
from celery_flows.transitions.stream import abandon_stream, open_stream


def test_a_batch_is_found_by_its_id(database: Database) -> None:
    """With all that was given to it, and where it stands."""
    parent = make_batch(database)
    given = {"description": "d", "context": encode({"a": [1]}), "tags": encode(["x", "y"])}
    found = batch(database, make_batch(database, parent=parent, tolerate="5%", **given))
    assert (found.description, found.context, found.tags) == ("d", {"a": [1]}, ["x", "y"])
    assert (found.kind, found.state, found.round, found.tolerate) == ("batch", BatchState.PENDING, 1, "5%")
    assert found.parent_id == parent
    assert found.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("nonsense", ["nonsense", "", "x" * 300, "'; --"])
def test_an_unknown_id_is_not_found(database: Database, nonsense: str) -> None:
    """Whatever was asked for, the error says so."""
    for ask in (batch, progress):
        with pytest.raises(BatchNotFound) as caught:
            ask(database, nonsense)
        assert caught.value.batch_id == nonsense


def test_a_batch_that_is_not_committed_is_found_where_it_was_made(database: Database) -> None:
    """On the connection of its own transaction."""
    made = NewBatch(new_id(), "batch", None, "1", "[]", "0", None)
    with database.engine.begin() as connection:
        create(connection, database.tables, made)
        assert batch(database, made.id, connection).context == 1


def test_batches_are_listed_newest_first(database: Database) -> None:
    """As many as asked for."""
    made = [make_batch(database) for _ in range(4)]
    assert [one.id for one in batches(database)] == made[::-1]
    assert [one.id for one in batches(database, limit=2)] == made[:1:-1]


def test_batches_are_found_by_what_they_are(database: Database) -> None:
    """State, kind, age and tag, together or apart."""
    old = make_batch(database, kind="sequence", tags=encode(["red", "blue"]))
    running, _ = running_batch(database, kind="batch", tags=encode(["red"]))
    done, [last] = running_batch(database)
    run_job(database, last, done)

    def found(**wanted: object) -> list[str]:
        return [one.id for one in batches(database, **wanted)]  # type: ignore[arg-type] # any mix of them

    assert found(state=BatchState.RUNNING) == [running]
    assert found(state=BatchState.COMPLETE) == [done]
    assert found(kind="sequence") == [old]
    assert found(tag="red") == [running, old]
    assert found(tag="red", state=BatchState.PENDING) == [old]
    assert found(since=batch(database, running).created_at) == [done, running]
    assert found(since=batch(database, done).created_at + timedelta(hours=1)) == []


# ---------------------------------------------------------------- progress


def test_progress_counts_every_job_once(database: Database) -> None:
    """Total is complete, failed, cancelled and pending; running is a part of pending, skipped of cancelled."""
    batch_id, jobs = running_batch(database, 8, tolerate="8")
    for job, outcome in zip(
        jobs, [JobState.COMPLETE] * 3 + [JobState.FAILED] * 2 + [JobState.CANCELLED], strict=False
    ):
        run_job(database, job, batch_id, outcome)
    claim(database, jobs[6], 1, "t")
    found = progress(database, batch_id)
    assert dict(found) == {"total": 8, "complete": 3, "failed": 2, "cancelled": 1, "pending": 2}
    assert found.running == 1
    assert found.elapsed > 0


def test_progress_of_nothing(database: Database) -> None:
    """A pending batch has no job and has taken no time."""
    found = progress(database, make_batch(database))
    assert (found.total, found.percent, found.elapsed) == (0, 100.0, 0.0)


def test_callbacks_and_open_blocks_are_no_jobs(database: Database) -> None:
    """A child counts one; a block counts when it was abandoned, as failed."""
    parent = make_batch(database)
    make_batch(database, parent=parent)
    blocks = [new_id(), new_id()]
    for block in blocks:
        database.transact(open_stream, database.tables, block, parent, starts=True)
    assert dict(progress(database, parent)) == {
        "total": 1,
        "complete": 0,
        "failed": 0,
        "cancelled": 0,
        "pending": 1,
    }
    abandon_stream(database, blocks[0], parent, "died")
    assert dict(progress(database, parent)) == {
        "total": 2,
        "complete": 0,
        "failed": 1,
        "cancelled": 0,
        "pending": 1,
    }


def test_time_stands_still_when_the_batch_is_finished(database: Database) -> None:
    """Elapsed ends with the batch, so that its rate stays what it was."""
    batch_id, [job] = running_batch(database)
    run_job(database, job, batch_id)
    record = batch(database, batch_id)
    assert record.settled_at is not None
    assert record.started_at is not None
    took = (record.settled_at - record.started_at).total_seconds()
    assert [progress(database, batch_id).elapsed for _ in range(2)] == [took, took]


def test_the_first_block_starts_the_clock(database: Database) -> None:
    """Later blocks do not start it again."""
    batch_id, _ = running_batch(database)
    before = progress(database, batch_id).elapsed
    enroll_jobs(database, batch_id, 1, starts=False)
    assert progress(database, batch_id).elapsed >= before
