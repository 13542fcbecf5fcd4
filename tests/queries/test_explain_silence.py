"""Explain: what it says where nobody is heard of, where a first block never came, and after a batch's end."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from explaining import hear_others, let_be_heard, on_worker, only_reason, why
from scenes import add_callback, age, enroll_jobs, fate_of, make_batch, run_job, running_batch

from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import leases
from celery_flows.store.database import Database
from celery_flows.store.publishing import Published
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.finalize import report
from celery_flows.transitions.lease import expire, mark_reserved, renew
from celery_flows.transitions.lose import LossPolicy
from celery_flows.transitions.publish import mark_published
from celery_flows.transitions.recover import recover_batches, take_vanished
from celery_flows.transitions.reopen import Mode, reopen
from celery_flows.transitions.stream import open_stream

NOBODY = r"no worker is heard of now, and nothing is given up before one has been for 60 s\. Start one\."
PAUSE = r"nobody was heard of for a while, so nothing is given up before \d\d:\d\d:\d\d UTC\."


# ---------------------------------------------------------------- nothing is given up right now


def nobody(database: Database) -> None:
    """No worker is there at all."""


def all_come_back(database: Database) -> None:
    """The database was away, and the workers are heard of again for ten seconds."""
    hear_others(database, 10)


def never_swept(database: Database) -> None:
    """A producer is heard of, but no worker ever was."""
    renew(database, "web", "web-1", 17, 60)


SILENCES = pytest.mark.parametrize(
    ("others", "then"), [(nobody, NOBODY), (all_come_back, PAUSE), (never_swept, PAUSE)]
)


@SILENCES
def test_nothing_is_given_up_where_nobody_was_heard_of(
    database: Database, others: Callable[[Database], None], then: str
) -> None:
    """A job on a silent worker, on one that is gone, and a block: as the sweep, it waits for a lease's time."""
    batch, [silent, gone] = running_batch(database, 2)
    let_be_heard(database, on_worker(database, silent), 90)
    database.transact(leases.end, database.tables, on_worker(database, gone), 0)
    block = new_id()
    database.transact(open_stream, database.tables, block, batch, starts=False)
    others(database)
    sentence = then[0].upper() + then[1:]
    found = {reason.id: reason.then for reason in why(database, batch).reasons}
    assert re.fullmatch(rf"The worker is silent for 9\d s: {then}", found[silent])
    assert re.fullmatch(sentence, found[gone])
    assert re.fullmatch(sentence, found[block])
    assert expire(database, 60, LossPolicy("fail", 3)).lost == []


# ---------------------------------------------------------------- messages in memory, and gone


@pytest.mark.parametrize(
    ("silent", "then"),
    [
        (45, r"pod-7, process 42, has its message\. The worker is silent for 4\d s; its lease ends at \S+ UTC\."),
        (90, r"pod-7, .*\. The worker is silent for 9\d s: the next sweep sends its message again\."),
        (None, r"The worker that had its message is gone: the next sweep sends its message again\."),
    ],
)
def test_a_message_in_a_silent_workers_memory(database: Database, silent: float | None, then: str) -> None:
    """It is not run in its turn: the sweep takes it over, as it says."""
    batch, [job] = running_batch(database)
    mark_published(database, [Published(job, 1, "images")])
    worker_id = new_id()
    renew(database, worker_id, "pod-7", 42, 60)
    mark_reserved(database, worker_id, {job: 1})
    hear_others(database)
    let_be_heard(database, worker_id, silent or 0)
    if silent is None:
        database.transact(leases.end, database.tables, worker_id, 0)
    assert re.fullmatch(f"queued: {then}", only_reason(database, batch, "job", job))
    taken = [one.id for one in expire(database, 60, LossPolicy("fail", 3)).ready]
    assert taken == ([] if silent == 45 else [job])


def test_a_message_that_was_sent_often_is_waited_for_longer(database: Database) -> None:
    """It names the time after which the sweep sends it again, which doubles."""
    batch, [job] = running_batch(database)
    mark_published(database, [Published(job, 1, "images")])
    age(database, "queued_at", [job], 601)
    assert [one.id for taken in take_vanished(database, 600, 10, lambda _: True) for one in taken] == [job]
    mark_published(database, [Published(job, 2, "images")])
    found = only_reason(database, batch, "job", job)
    assert "the sweep sends it again after 1200 s, once the queue is empty " in found
    age(database, "queued_at", [job], 1199)
    assert [*take_vanished(database, 600, 10, lambda _: True)] == []


def test_a_message_in_a_queue_that_nobody_knows(database: Database) -> None:
    """An exchange chose its queue, so the sweep can't miss it there, and says what to do instead."""
    batch, [job] = running_batch(database)
    mark_published(database, [Published(job, 1)])
    age(database, "queued_at", [job], 100_000)
    assert only_reason(database, batch, "job", job).endswith("were it gone, cancel the batch and retry it.")
    assert [*take_vanished(database, 600, 10, lambda _: True)] == []
    cancel(database, batch)
    assert fate_of(database, batch) == (BatchState.CANCELLED, True)
    assert reopen(database, batch, Mode.FAILED) == [batch]
    assert only_reason(database, batch, "job", job).startswith("ready, not published")


# ---------------------------------------------------------------- a first block that never came


def failed_before_it_began(database: Database) -> tuple[str, str]:
    """A parent that waits for a child that has failed by its own child, and whose own block never came."""
    parent = make_batch(database)
    enroll_jobs(database, parent, 0)
    child = make_batch(database, parent=parent)
    grandchild = make_batch(database, parent=child)
    [job] = enroll_jobs(database, grandchild, 1)
    run_job(database, job, grandchild, JobState.FAILED)
    assert fate_of(database, grandchild) == (BatchState.FAILED, True)
    assert fate_of(database, child) == fate_of(database, parent) == (BatchState.FAILED, False)
    return parent, child


def test_a_batch_that_failed_before_it_began_waits_for_its_first_block(database: Database) -> None:
    """Its child has failed, and it with it; the sweep can't know whether its block is still to come."""
    parent, child = failed_before_it_began(database)
    assert recover_batches(database) == ([], [])
    then = "Its first block has not ended. Open one (with batch.jobs():), or cancel the batch."
    found = [(reason.what, reason.id, reason.state, reason.then) for reason in why(database, parent).reasons]
    assert found == [
        ("child batch", child, "failed", "It waits for what follows."),
        ("batch", child, "failed", then),
    ]


def test_a_cancel_ends_what_failed_before_it_began(database: Database) -> None:
    """Its parent has waited for nothing else."""
    parent, child = failed_before_it_began(database)
    cancel(database, child)
    assert fate_of(database, child) == fate_of(database, parent) == (BatchState.FAILED, True)
    assert why(database, parent).reasons == ()


@pytest.mark.parametrize("jobs", [0, 1])
def test_its_first_block_lets_it_end(database: Database, jobs: int) -> None:
    """It stays failed, and runs what its block brings, as every batch that has failed."""
    parent, child = failed_before_it_began(database)
    for job in enroll_jobs(database, child, jobs):
        run_job(database, job, child)
    recover_batches(database)
    assert fate_of(database, child) == fate_of(database, parent) == (BatchState.FAILED, True)


# ---------------------------------------------------------------- after the end


ENDS = {"complete": JobState.COMPLETE, "failure": JobState.FAILED, "settled": JobState.FAILED}


@pytest.mark.parametrize("event", ENDS)
def test_a_finished_batch_waits_for_its_callbacks(database: Database, event: str) -> None:
    """Not published, queued, and running: each step is named until it has ended."""
    batch, [job] = running_batch(database)
    callback = add_callback(database, batch, event)
    run_job(database, job, batch, ENDS[event])
    what = f"{event} callback"
    assert only_reason(database, batch, what, callback).startswith("ready, not published: ")
    mark_published(database, [Published(callback, 0, "mail")])
    assert "A worker that consumes queue 'mail' takes it." in only_reason(database, batch, what, callback)
    on_worker(database, callback)
    assert only_reason(database, batch, what, callback).startswith("running on pod-7, process 42, attempt 1: ")


def test_a_callback_that_has_ended_holds_nothing(database: Database) -> None:
    """Neither its batch, nor the parent of that."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    [job] = enroll_jobs(database, child, 1)
    callback = add_callback(database, child, "settled")
    run_job(database, job, child)
    run_job(database, callback, announces=child)
    assert report(database, child) == []
    assert why(database, child).reasons == why(database, parent).reasons == ()
