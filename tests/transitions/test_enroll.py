"""Create, adopt and enroll: rows before messages, and the check at the end."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from scenes import (
    batch_row,
    call,
    count,
    enroll_jobs,
    fate_of,
    make_batch,
    row,
    run_job,
    running_batch,
    state_of,
    tally,
)

from celery_flows.errors import BatchFinished, BatchNotFound, DuplicateJob
from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store.bulk import add_jobs
from celery_flows.store.database import Connection, Database
from celery_flows.transitions.create import NewBatch, adopt, create
from celery_flows.transitions.enroll import Share, enroll

# ---------------------------------------------------------------- create and adopt


def test_a_new_batch_is_pending(database: Database) -> None:
    """A batch waits for its first block, in round 1, neither started nor decided."""
    found = batch_row(database, make_batch(database, description="d", tolerate="5%"))
    assert (found.state, found.round, found.description, found.tolerate) == ("pending", 1, "d", "5%")
    assert found.created_at is not None
    assert (found.started_at, found.completed_at, found.settled_at) == (None, None, None)


def test_a_child_is_a_waiting_row_in_its_parent(database: Database) -> None:
    """An adopted child stands in its parent under its own id, without a message."""
    parent, _ = running_batch(database)
    child = row(database, make_batch(database, parent=parent))
    assert (child.batch_id, child.kind, child.state, child.delivery) == (parent, Kind.BATCH, "waiting", 0)
    assert child.publishing_since is None


def test_adopting_leaves_a_pending_parent_pending(database: Database) -> None:
    """Only a block starts a batch."""
    parent = make_batch(database)
    make_batch(database, parent=parent)
    assert fate_of(database, parent) == (BatchState.PENDING, False)


def test_a_finished_batch_adopts_nobody(database: Database) -> None:
    """A child of a finished parent is refused, and leaves no row in it."""
    parent, [job] = running_batch(database)
    run_job(database, job, parent)
    child = make_batch(database)
    with pytest.raises(BatchFinished) as caught:
        database.transact(adopt, database.tables, parent, child)
    assert (caught.value.batch_id, caught.value.state) == (parent, "complete")
    assert count(database) == 1


def test_a_child_counts_in_its_parents_share(database: Database) -> None:
    """A tolerance that is a share is one of all jobs known, children among them."""
    parent, _ = running_batch(database, 3, tolerate="50%")
    make_batch(database, parent=parent)
    assert tally(database, parent) == (4, 0)


# ---------------------------------------------------------------- enroll


def test_enrolled_jobs_are_ready_and_about_to_be_published(database: Database) -> None:
    """The first block starts its batch; each job is ready for its first delivery and belongs to its publisher."""
    batch, [job] = running_batch(database)
    found = row(database, job)
    assert (found.state, found.delivery, found.attempt, found.wrong, found.round) == ("ready", 1, 0, 0, 1)
    assert found.publishing_since is not None
    assert found.outcome is None
    assert batch_row(database, batch).started_at is not None
    assert fate_of(database, batch) == (BatchState.RUNNING, False)


def test_many_chunks_are_one_enrolment(database: Database) -> None:
    """All chunks of a block are written, each whole."""
    batch = make_batch(database)
    jobs = enroll_jobs(database, batch, 2_503, chunk=500)
    assert count(database) == 2_503
    assert state_of(database, jobs[-1]) is JobState.READY


def test_an_expiry_is_kept_as_the_moment_it_is(database: Database) -> None:
    """Whatever offset an expiry is written with, the row holds the same moment."""
    batch = make_batch(database)
    [job] = enroll_jobs(database, batch, [call(batch, expires_at="2031-05-06T07:08:09.123456+02:00")])
    assert row(database, job).expires_at.isoformat() == "2031-05-06T05:08:09.123456+00:00"


def test_a_later_block_does_not_start_a_batch_again(database: Database) -> None:
    """A batch starts once, also when two blocks were both opened while it was pending."""
    batch, _ = running_batch(database)
    started = batch_row(database, batch).started_at
    enroll_jobs(database, batch, 1, starts=True)
    assert batch_row(database, batch).started_at == started
    assert count(database) == 2


def test_only_a_share_has_its_total_counted(database: Database) -> None:
    """A number of jobs needs no total, so nothing shared is written for it."""
    number, _ = running_batch(database, 4, tolerate="3")
    share, _ = running_batch(database, 4, tolerate="5%")
    enroll_jobs(database, share, 6, starts=False)
    assert (tally(database, number), tally(database, share)) == ((0, 0), (10, 0))


def test_a_finished_batch_takes_no_job(database: Database) -> None:
    """The last statement of an enrolment finds the batch finished, and then nothing stays written."""
    batch, [job] = running_batch(database)
    run_job(database, job, batch)
    with pytest.raises(BatchFinished):
        enroll_jobs(database, batch, 1_500, starts=False)
    assert count(database) == 1


def test_an_unknown_batch_takes_no_job(database: Database) -> None:
    """There is no foreign key: the check under the lock finds out, and nothing stays written."""
    with pytest.raises(BatchNotFound):
        enroll_jobs(database, "nonsense", 3)
    assert count(database) == 0


def test_a_failed_batch_that_is_unfinished_still_grows(database: Database) -> None:
    """Not the fate ends a batch, but that no job is left."""
    batch, [first, _] = running_batch(database, 2)
    run_job(database, first, batch, JobState.FAILED)
    enroll_jobs(database, batch, 1, starts=False)
    assert fate_of(database, batch) == (BatchState.FAILED, False)
    assert count(database) == 3


def test_zero_jobs_change_nothing(database: Database) -> None:
    """Reopening a finished batch with an empty block is no error and writes nothing."""
    batch, [job] = running_batch(database)
    run_job(database, job, batch)
    assert enroll_jobs(database, batch, 0, starts=False) == []


@pytest.mark.parametrize("where", ["across", "inside", "chunks"])
def test_a_given_id_is_taken_once(database: Database, where: str) -> None:
    """A taken id is refused by name, and the block with it: across blocks, in one chunk, between chunks."""
    taken = "order 7"
    other = make_batch(database)
    batch = make_batch(database)
    if where == "across":
        enroll_jobs(database, other, [call(other, taken)])
    before = count(database)
    calls = [call(batch), call(batch, taken), call(batch)] + ([] if where == "across" else [call(batch, taken)])
    with pytest.raises(DuplicateJob) as caught:
        enroll_jobs(database, batch, calls, chunk=2 if where == "chunks" else 1000)
    assert count(database) == before
    assert fate_of(database, batch) == (BatchState.PENDING, False)
    if (database.dialect, where) not in {("sqlite", "across"), ("sqlite", "chunks")}:
        assert caught.value.job_id == taken


@pytest.mark.parametrize("key", [None, "nightly"])
def test_what_fails_is_what_is_named(database: Database, key: str | None) -> None:
    """A batch that is there already is no taken job and no taken key, though it may be said with what follows."""
    batch = make_batch(database)

    def again(connection: Connection) -> None:
        values = {"context": "null", "tags": "[]", "tolerate": "0", "parent_id": None}
        create(connection, database.tables, NewBatch(batch, "batch", None, **values))
        if key is None:
            add_jobs(connection, database.tables, [[call(batch)]])
        else:
            create(connection, database.tables, NewBatch("other", "batch", None, **values, batch_key=key))

    with pytest.raises(sa.exc.IntegrityError, match="flows_batches"):
        database.transact(again)
    assert count(database) == 0


def test_the_duplicate_that_is_named_is_the_one_taken(database: Database) -> None:
    """An id that is part of the taken one is not mistaken for it."""
    batch = make_batch(database)
    with pytest.raises(DuplicateJob) as caught:
        enroll_jobs(
            database, batch, [call(batch, "a"), call(batch, "key"), call(batch, "a key"), call(batch, "a key")]
        )
    assert caught.value.job_id == "a key"


def test_a_block_and_those_inside_it_are_one_transaction(database: Database) -> None:
    """Jobs of a child and of its parent stand or fall together: the parent is finished, so the child has none."""
    parent, [job] = running_batch(database)
    run_job(database, job, parent)
    child = make_batch(database)
    calls = [call(child), call(parent, child, Kind.BATCH)]
    with pytest.raises(BatchFinished):
        database.transact(
            enroll, database.tables, [calls], [Share(child, 1, starts=True), Share(parent, 1, starts=False)]
        )
    assert (count(database), fate_of(database, child)) == (1, (BatchState.PENDING, False))


def test_a_child_that_starts_shows_as_running_in_its_parent(database: Database) -> None:
    """Where a child's block is written with its parent's, the row that stands for it runs at once."""
    parent, child = make_batch(database), new_id()
    # Its row in the parent comes with the block.
    made = NewBatch(child, "batch", None, "null", "[]", "0", parent)
    database.transact(create, database.tables, made)
    calls = [call(parent, child, Kind.BATCH), call(child)]
    database.transact(
        enroll, database.tables, [calls], [Share(child, 1, starts=True), Share(parent, 1, starts=True)]
    )
    assert state_of(database, child) is JobState.RUNNING
    assert fate_of(database, child) == fate_of(database, parent) == (BatchState.RUNNING, False)
