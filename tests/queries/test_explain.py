"""Explain: for each way in which a batch can hang, it names what holds it, since when, and what comes next."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from explaining import hear_others, on_worker, only_reason, why
from printing import pretty
from scenes import add_callback, age, enroll_jobs, make_batch, row, run_job, running_batch

from celery_flows.errors import BatchNotFound
from celery_flows.ids import new_id
from celery_flows.states import JobState
from celery_flows.store import jobs as job_statements
from celery_flows.store import leases
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import Published
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.claim import claim
from celery_flows.transitions.lease import mark_reserved, renew
from celery_flows.transitions.publish import mark_published
from celery_flows.transitions.recover import recover_batches
from celery_flows.transitions.reopen import Mode, reopen
from celery_flows.transitions.retry_job import NextAttempt, retry_job
from celery_flows.transitions.settle import settle
from celery_flows.transitions.stream import open_stream

# ---------------------------------------------------------------- jobs


def test_a_batch_without_a_block_waits_for_one(database: Database) -> None:
    """Only who made it can open its first block, or cancel it."""
    batch = make_batch(database)
    assert only_reason(database, batch, "batch", batch) == (
        "pending: Its first block has not ended. Open one (with batch.jobs():), or cancel the batch."
    )


def test_a_job_that_was_not_published_waits_for_the_sweep(database: Database) -> None:
    """Its publisher died, or the broker was away: it says when the sweep takes over."""
    batch, [job] = running_batch(database)
    age(database, "publishing_since", [job], 20)
    due = row(database, job).publishing_since + timedelta(seconds=60)
    found = only_reason(database, batch, "job", job)
    assert found.startswith("ready, not published: ")
    assert f"at {due:%H:%M:%S} UTC the next sweep publishes it." in found


def test_it_shows_itself_at_a_prompt(database: Database) -> None:
    """In a line; IPython gets the lines that are printed."""
    batch, _ = running_batch(database, 2)
    head = f"<Explanation of {batch[:18]}: "
    found = why(database, batch)
    assert repr(found) == f"{head}running, waits for 2 things>"
    assert pretty(found) == str(found)
    cancel(database, batch)
    assert repr(why(database, batch)) == f"{head}cancelled, waits for nothing>"


def test_a_queued_job_waits_for_a_worker(database: Database) -> None:
    """It names the queue that somebody must consume, and what happens if the message is gone."""
    batch, [job] = running_batch(database)
    mark_published(database, [Published(job, 1, "images")])
    found = only_reason(database, batch, "job", job)
    assert found.startswith("queued: A worker that consumes queue 'images' takes it.")
    assert "the sweep sends it again after 600 s" in found
    assert str(why(database, batch)).splitlines()[1].startswith(f"- job {job} (shop.score): queued since ")


def test_a_job_that_is_due_later_was_not_queued_in_the_future(database: Database) -> None:
    """Its moment is that of its enrolment; when it is due is said behind, with the day, as that may be any."""
    batch, [job] = running_batch(database)
    mark_published(database, [Published(job, 1, "images", delay=300)])
    [reason] = why(database, batch).reasons
    assert (reason.since, reason.task) == (row(database, job).enrolled_at, "shop.score")
    assert reason.then == f"It is due at {row(database, job).queued_at:%Y-%m-%d %H:%M:%S} UTC."


def test_a_job_in_a_workers_memory_names_the_worker(database: Database) -> None:
    """The worker has its message, and has other jobs to run first."""
    batch, [job] = running_batch(database)
    mark_published(database, [Published(job, 1, "images")])
    worker_id = new_id()
    renew(database, worker_id, "pod-7", 42, 60)
    mark_reserved(database, worker_id, {job: 1})
    assert only_reason(database, batch, "job", job) == (
        "queued: pod-7, process 42, has its message and runs it in its turn."
    )


def test_a_retrying_job_says_when_it_is_due(database: Database) -> None:
    """First it is to be published, then its pause must pass."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "t")
    retry_job(database, NextAttempt(job, 1, "t", "shop.score", "[1]", "{}", "{}"))
    assert only_reason(database, batch, "job", job).startswith("retrying, not published: ")
    mark_published(database, [Published(job, 2, "images", delay=300)])
    due = row(database, job).queued_at
    assert only_reason(database, batch, "job", job) == f"retrying: It is due at {due:%Y-%m-%d %H:%M:%S} UTC."


@pytest.mark.parametrize(
    ("silent", "then"),
    [
        (0, r"The worker was heard of \d s ago\."),
        (45, r"The worker is silent for 4\d s; its lease ends at \d\d:\d\d:\d\d UTC\."),
        (90, r"The worker is silent for 9\d s: the next sweep gives it up\."),
    ],
)
def test_a_running_job_names_its_worker(database: Database, silent: float, then: str) -> None:
    """Host, process and attempt, and how long ago the worker was heard of."""
    batch, [job] = running_batch(database)
    hear_others(database)
    on_worker(database, job, silent)
    found = only_reason(database, batch, "job", job)
    assert re.fullmatch(f"running on pod-7, process 42, attempt 1: {then}", found)


def test_a_job_of_a_worker_that_is_gone_waits_for_the_sweep(database: Database) -> None:
    """Its lease has been ended, and nobody has come to give up its jobs."""
    batch, [job] = running_batch(database)
    hear_others(database)
    worker_id = on_worker(database, job)
    database.transact(leases.end, database.tables, worker_id, 0)
    assert only_reason(database, batch, "job", job) == (
        "running on a worker that is gone: The next sweep gives it up."
    )


def test_a_job_that_runs_outside_of_a_worker_says_so(database: Database) -> None:
    """An eager app's own process runs it: nobody can give it up."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "t")
    assert only_reason(database, batch, "job", job) == "running: It runs outside of a worker."


def test_a_cancelled_batch_waits_for_what_runs(database: Database) -> None:
    """The running job is named, not those that were cancelled."""
    batch, [job, _] = running_batch(database, 2)
    on_worker(database, job)
    cancel(database, batch)
    assert str(why(database, batch)).startswith(
        f"Batch {batch} is cancelled, and waits for:\n- job {job} (shop.score): running on"
    )
    only_reason(database, batch, "job", job)


# ---------------------------------------------------------------- blocks


def test_an_open_stream_names_its_producer(database: Database) -> None:
    """As long as it is heard of it goes on; when its lease is gone, the sweep ends it."""
    batch, block = make_batch(database), new_id()
    hear_others(database)
    renew(database, block, "web-1", 17, 60)
    database.transact(open_stream, database.tables, block, batch, starts=True)
    found = only_reason(database, batch, "streaming block", block)
    assert re.fullmatch(r"open in web-1, process 17: The producer was heard of \d s ago\.", found)
    database.transact(leases.end, database.tables, block, 0)
    assert only_reason(database, batch, "streaming block", block) == (
        "open, its producer gone: The next sweep ends it as abandoned."
    )


# ---------------------------------------------------------------- decisions


def test_a_batch_that_nobody_decided_waits_for_the_sweep(database: Database) -> None:
    """Its last job has ended, and who should have looked died before."""
    batch, [job] = running_batch(database)
    add_callback(database, batch, "complete")
    claim(database, job, 1, "t")
    database.run(job_statements.complete, at_id=job, at_delivery=1, at_token="t")
    assert only_reason(database, batch, "batch", batch) == (
        "undecided: No job is left, but nobody decided: the next sweep does, within 15 s."
    )
    recover_batches(database)
    assert only_reason(database, batch, "complete callback", armed(database, batch)).startswith(
        "ready, not published"
    )


def armed(database: Database, batch: str) -> str:
    """The callback of a batch that is to be published."""
    table = database.tables.jobs
    with database.reading() as connection:
        due = (table.c.announces_id == batch) & table.c.publishing_since.is_not(None)
        return str(connection.execute(table.select().where(due)).one().id)


def test_a_finished_batch_names_the_callbacks_that_are_to_run(database: Database) -> None:
    """Each with its event; one that has not been called for holds nothing."""
    batch, [job, _] = running_batch(database, 2)
    failure = add_callback(database, batch, "failure")
    add_callback(database, batch, "settled")
    run_job(database, job, batch, JobState.FAILED)
    on_worker(database, failure)
    found = {reason.what: reason.state for reason in why(database, batch).reasons}
    assert found == {"failure callback": "running on pod-7, process 42, attempt 1", "job": "ready, not published"}


def test_a_callback_that_failed_is_named(database: Database) -> None:
    """In its own round: with what it raised, since when, and what to do; one that went well is not."""
    batch, [job] = running_batch(database)
    failed, _ = add_callback(database, batch, "complete"), add_callback(database, batch, "settled")
    run_job(database, job, batch)
    claim(database, failed, 1, "t")
    settle(database, Ending(failed, JobState.FAILED, "ValueError", "no"), batch_id=None, announces_id=batch)
    explanation = why(database, batch)
    [reason] = explanation.failed_callbacks
    assert (reason.what, reason.id, reason.state, reason.since) == (
        "complete callback",
        failed,
        "failed",
        row(database, failed).ended_at,
    )
    assert re.search(
        r"Of its callbacks these failed:\n- complete callback .* It raised ValueError", str(explanation)
    )
    reopen(database, batch, Mode.ALL)
    assert why(database, batch).failed_callbacks == ()


def test_a_finished_batch_waits_for_nothing(database: Database) -> None:
    """It says so; a batch that is not there is not explained."""
    batch, [job] = running_batch(database)
    run_job(database, job, batch)
    assert str(why(database, batch)) == f"Batch {batch} is complete. It waits for nothing."
    with pytest.raises(BatchNotFound):
        why(database, new_id())


# ---------------------------------------------------------------- children


def test_a_child_is_named_with_what_holds_it(database: Database) -> None:
    """Down to the job at the bottom, each batch before what it waits for."""
    top = make_batch(database)
    middle = make_batch(database, parent=top)
    bottom = make_batch(database, parent=middle)
    for batch in (top, middle):
        enroll_jobs(database, batch, 0)
    [job] = enroll_jobs(database, bottom, 1)
    on_worker(database, job)
    found = [(reason.what, reason.id, reason.state) for reason in why(database, top).reasons]
    assert found == [
        ("child batch", middle, "running"),
        ("child batch", bottom, "running"),
        ("job", job, "running on pod-7, process 42, attempt 1"),
    ]


def test_a_childs_callback_holds_its_parent(database: Database) -> None:
    """The child is finished, and its row in the parent waits for what the child's callbacks do."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    [job] = enroll_jobs(database, child, 1)
    callback = add_callback(database, child, "complete")
    run_job(database, job, child)
    found = [(reason.what, reason.id) for reason in why(database, parent).reasons]
    assert found == [("child batch", child), ("complete callback", callback)]


def test_a_child_whose_end_was_not_reported_waits_for_the_sweep(database: Database) -> None:
    """Its last callback ended, and the worker died before it told the parent."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    [job] = enroll_jobs(database, child, 1)
    callback = add_callback(database, child, "complete")
    run_job(database, job, child)
    claim(database, callback, 0, "t")
    database.run(job_statements.complete, at_id=callback, at_delivery=0, at_token="t")
    assert only_reason(database, parent, "child batch", child) == (
        "complete: It is finished; the sweep ends its row here, every 15 s."
    )


def test_a_child_that_was_not_begun_is_named(database: Database) -> None:
    """Somebody made it and never opened its block."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    found = [(reason.what, reason.id, reason.state) for reason in why(database, parent).reasons]
    assert found == [("child batch", child, "pending"), ("batch", child, "pending")]


# ---------------------------------------------------------------- many


def test_a_long_queue_does_not_hide_what_is_stuck(database: Database) -> None:
    """Of each state the oldest few are named, and the others counted."""
    batch, jobs = running_batch(database, 30)
    mark_published(database, [Published(job, 1) for job in jobs])
    on_worker(database, jobs[-1])
    explanation = why(database, batch)
    assert [reason.id for reason in explanation.reasons] == [*jobs[:5], jobs[-1]]
    assert str(explanation).splitlines()[-1] == "- and 24 more"
    assert len(str(explanation).splitlines()) == 8
