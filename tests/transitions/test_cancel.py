"""Cancel: what has not started ends, what runs may finish, and only `settled` is announced."""

from __future__ import annotations

import pytest
from locks import beside, on_servers, opened, outcome, wait_for_waiter
from scenes import (
    add_callback,
    batch_row,
    call,
    enroll_jobs,
    fate_of,
    ids,
    listen_to,
    make_batch,
    row,
    run_job,
    running_batch,
    state_of,
    tally,
)

from celery_flows.errors import BatchCancelled, BatchFinished, BatchNotFound
from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import jobs as job_statements
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import Published
from celery_flows.transitions.cancel import _cancel, cancel
from celery_flows.transitions.claim import claim
from celery_flows.transitions.create import adopt
from celery_flows.transitions.enroll import Share, enroll
from celery_flows.transitions.finalize import finalize
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.publish import mark_published
from celery_flows.transitions.requeue import requeue
from celery_flows.transitions.retry_job import NextAttempt, retry_job
from celery_flows.transitions.settle import settle
from celery_flows.transitions.stream import open_stream

CANCELLED = BatchState.CANCELLED
RETRY = LossPolicy("retry", 3)


def cancelled_while_running(database: Database, **batch: str) -> tuple[str, str]:
    """A cancelled batch that waits for its one running job, and that job."""
    batch_id, [job] = running_batch(database, **batch)
    assert claim(database, job, 1, "t") == 1
    assert cancel(database, batch_id).running == [job]
    return batch_id, job


def finish(database: Database, job: str, batch: str, state: JobState = JobState.COMPLETE) -> list[str]:
    """End a running job."""
    return ids(settle(database, Ending(job, state, delivery=1, token="t"), batch_id=batch))


# ---------------------------------------------------------------- what ends


def test_what_has_not_started_ends_and_only_settled_fires(database: Database) -> None:
    """A batch whose jobs nobody has claimed is finished at once, with settled armed and the rest skipped."""
    batch, jobs = running_batch(database, 3)
    mark_published(database, [Published(jobs[0], 1)])
    complete, failure, settled = (
        add_callback(database, batch, event) for event in ("complete", "failure", "settled")
    )
    done = cancel(database, batch)
    assert (ids(done.ready), done.running) == ([settled], [])
    assert fate_of(database, batch) == (CANCELLED, True)
    assert {state_of(database, job) for job in jobs} == {JobState.CANCELLED}
    assert {state_of(database, one) for one in (complete, failure)} == {JobState.SKIPPED}


def test_a_cancelled_job_is_nobodys_any_more(database: Database) -> None:
    """Its message claims nothing, and no publisher, sweep or worker has its row on a list."""
    batch = make_batch(database)
    [job] = enroll_jobs(database, batch, [call(batch, expires_at="2001-01-01T00:00:00+00:00")])
    cancel(database, batch)
    found = row(database, job)
    assert (found.publishing_since, found.expires_at, found.worker_id) == (None, None, None)
    assert found.ended_at is not None
    assert claim(database, job, 1, "t") is None


def test_what_runs_may_finish(database: Database) -> None:
    """A cancelled batch waits for its running jobs, whose outcomes count, and is finished with the last."""
    batch, [first, last, third] = running_batch(database, 3)
    settled = add_callback(database, batch, "settled")
    for job in (first, last):
        claim(database, job, 1, "t")
    done = cancel(database, batch)
    assert (done.ready, done.running) == ([], sorted([first, last]))
    assert fate_of(database, batch) == (CANCELLED, False)
    assert finish(database, first, batch, JobState.FAILED) == []
    assert finish(database, last, batch) == [settled]
    assert fate_of(database, batch) == (CANCELLED, True)
    assert [state_of(database, job) for job in (first, last, third)] == ["failed", "complete", "cancelled"]


def test_cancelling_twice_is_cancelling_once(database: Database) -> None:
    """The second cancel finds nothing to end and arms nothing, before and after the batch is finished."""
    batch, job = cancelled_while_running(database)
    add_callback(database, batch, "settled")
    before = batch_row(database, batch)
    assert cancel(database, batch) == ([], [job])
    assert batch_row(database, batch) == before
    finish(database, job, batch)
    before = batch_row(database, batch)
    assert cancel(database, batch) == ([], [])
    assert batch_row(database, batch) == before


def test_a_finished_batch_keeps_its_fate(database: Database) -> None:
    """There is nothing left to cancel; of a batch that is not there the caller hears."""
    batch, [job] = running_batch(database)
    run_job(database, job, batch)
    assert cancel(database, batch) == ([], [])
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)
    with pytest.raises(BatchNotFound):
        cancel(database, new_id())


def test_a_failed_batch_stays_failed_without_the_rest(database: Database) -> None:
    """Its fate is decided; cancelling spares it the jobs that had not started."""
    batch, [first, last] = running_batch(database, 2)
    settled = add_callback(database, batch, "settled")
    run_job(database, first, batch, JobState.FAILED)
    assert ids(cancel(database, batch).ready) == [settled]
    assert fate_of(database, batch) == (BatchState.FAILED, True)
    assert state_of(database, last) is JobState.CANCELLED


def test_a_batch_that_has_not_begun_is_finished_at_once(database: Database) -> None:
    """Its first block, if it comes, is refused and writes nothing."""
    batch = make_batch(database)
    settled = add_callback(database, batch, "settled")
    assert ids(cancel(database, batch).ready) == [settled]
    assert fate_of(database, batch) == (CANCELLED, True)
    with pytest.raises(BatchFinished):
        enroll_jobs(database, batch, 1)


# ---------------------------------------------------------------- children


def test_cancel_goes_down_all_the_way(database: Database) -> None:
    """Children and theirs, pending ones too; all finish from the bottom up, each with its settled."""
    batches = [make_batch(database)]
    for _ in range(2):
        batches.append(make_batch(database, parent=batches[-1]))
    pending = make_batch(database, parent=batches[-1])
    jobs = [job for batch in batches for job in enroll_jobs(database, batch, 2)]
    settled = [add_callback(database, batch, "settled") for batch in (*batches, pending)]
    assert set(ids(cancel(database, batches[0]).ready)) <= set(settled)
    assert {fate_of(database, pending), fate_of(database, batches[2])} == {(CANCELLED, True), (CANCELLED, False)}
    for batch, callback in reversed(list(zip((*batches[1:], pending), settled[1:], strict=True))):
        # A child's row in its parent waits for the child's callbacks.
        run_job(database, callback, announces=batch)
    assert {fate_of(database, batch) for batch in (*batches, pending)} == {(CANCELLED, True)}
    assert {state_of(database, one) for one in (*jobs, *batches[1:], pending)} == {JobState.CANCELLED}
    assert state_of(database, settled[0]) is JobState.READY


def test_a_running_job_at_the_bottom_holds_all_above(database: Database) -> None:
    """The batches above a running job are cancelled, and finished when it ends."""
    top = make_batch(database)
    middle = make_batch(database, parent=top)
    bottom = make_batch(database, parent=middle)
    for batch in (top, middle):
        enroll_jobs(database, batch, 1)
    [job] = enroll_jobs(database, bottom, 1)
    claim(database, job, 1, "t")
    assert cancel(database, top) == ([], [job])
    assert {fate_of(database, batch) for batch in (top, middle, bottom)} == {(CANCELLED, False)}
    finish(database, job, bottom)
    assert {fate_of(database, batch) for batch in (top, middle, bottom)} == {(CANCELLED, True)}


@pytest.mark.parametrize(("tolerate", "fate"), [("0", "failed"), ("1", "complete")])
def test_a_child_cancelled_alone_counts_like_a_revoked_job(database: Database, tolerate: str, fate: str) -> None:
    """What its parent was to do has not been done: it counts once against the parent's tolerance."""
    parent = make_batch(database, tolerate=tolerate)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    enroll_jobs(database, child, 2)
    cancel(database, child)
    assert fate_of(database, parent) == (BatchState(fate), True)
    assert tally(database, parent) == ((0, 1) if tolerate == "1" else (0, 0))


# ---------------------------------------------------------------- what comes after


def test_nothing_is_added_to_a_cancelled_batch(database: Database) -> None:
    """A running job of it that adds jobs, a child or a stream is refused, and nothing is written."""
    batch, job = cancelled_while_running(database)
    child = make_batch(database)
    adders = [
        (enroll, [[call(batch)]], [Share(batch, 1, False)]),
        (adopt, batch, child),
    ]
    for work, *given in adders:
        with pytest.raises(BatchCancelled):
            database.transact(work, database.tables, *given)
    with pytest.raises(BatchCancelled):
        database.transact(open_stream, database.tables, new_id(), batch, starts=False)
    with database.reading() as connection:
        assert connection.execute(database.tables.jobs.select()).one().id == job


def test_a_cancelled_batch_can_still_be_listened_to(database: Database) -> None:
    """Settled is yet to come; the events that will not come are skipped with the others."""
    batch, job = cancelled_while_running(database)
    settled, ready = listen_to(database, batch, "settled")
    complete, _ = listen_to(database, batch, "complete")
    assert ready == []
    assert finish(database, job, batch) == [settled]
    assert state_of(database, complete) is JobState.SKIPPED


def test_a_job_of_a_cancelled_batch_is_not_retried(database: Database) -> None:
    """A running job that asks for another attempt ends as cancelled, and finishes the batch."""
    batch, job = cancelled_while_running(database)
    settled = add_callback(database, batch, "settled")
    assert ids(retry_job(database, NextAttempt(job, 1, "t", "shop.score", "[1]", "{}", "{}"))) == [settled]
    assert (state_of(database, job), row(database, job).publishing_since) == (JobState.CANCELLED, None)
    assert fate_of(database, batch) == (CANCELLED, True)


def test_a_job_of_a_cancelled_batch_does_not_go_back(database: Database) -> None:
    """A running job that puts its message back ends as cancelled; the message, when it comes, claims nothing."""
    batch, job = cancelled_while_running(database)
    settled = add_callback(database, batch, "settled")
    assert ids(requeue(database, job, 1, "t", batch_id=batch)) == [settled]
    assert claim(database, job, 1, "again") is None


def test_a_lost_job_of_a_cancelled_batch_does_not_run_again(database: Database) -> None:
    """Its worker died, and its policy is retry: it ends as cancelled."""
    batch, job = cancelled_while_running(database)
    settled = add_callback(database, batch, "settled")
    lost, ready = lose(database, job, "t", RETRY, "killed")
    assert (lost is not None and lost.is_again, ids(ready)) == (False, [settled])
    assert state_of(database, job) is JobState.CANCELLED


# ---------------------------------------------------------------- at the same moment


@on_servers
def test_cancel_waits_for_who_finishes_the_batch(database: Database) -> None:
    """The finisher holds the batch's row: the cancel waits, then finds it complete and changes nothing."""
    batch, [job] = running_batch(database)
    complete = add_callback(database, batch, "complete")
    claim(database, job, 1, "t")
    database.run(job_statements.complete, at_id=job, at_delivery=1, at_token="t")
    with opened(database) as connection:
        assert ids(finalize(connection, database.tables, batch).ready) == [complete]
        cancelling = beside(cancel, database, batch)
        wait_for_waiter(database)
        assert not cancelling.done()
    assert outcome(cancelling) == ([], [])
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


@on_servers
def test_an_adder_meets_the_cancel_under_the_lock(database: Database) -> None:
    """The cancel holds the batch's row while an adder checks: the adder waits, is refused, and leaves nothing."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "t")
    with opened(database) as connection:
        _cancel(connection, database.tables, batch)
        adding = beside(database.transact, enroll, database.tables, [[call(batch)]], [Share(batch, 1, False)])
        wait_for_waiter(database)
    with pytest.raises(BatchCancelled):
        outcome(adding)
    finish(database, job, batch)
    assert fate_of(database, batch) == (CANCELLED, True)


@on_servers
def test_a_retry_meets_the_cancel_under_the_lock(database: Database) -> None:
    """A cancel that saw the job running commits after the retry was written: the retry waits for it, and ends."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "t")
    with opened(database) as connection:
        _cancel(connection, database.tables, batch)
        retrying = beside(retry_job, database, NextAttempt(job, 1, "t", "shop.score", "[1]", "{}", "{}"))
        wait_for_waiter(database)
    assert outcome(retrying) == []
    assert state_of(database, job) is JobState.CANCELLED
    assert fate_of(database, batch) == (CANCELLED, True)
