"""Claim, requeue, hand over, retry: who may run a job, and how a claim ends without an outcome."""

from __future__ import annotations

import pytest
from scenes import age, ids, row, running_batch, state_of

from celery_flows.states import TERMINAL, JobState
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables
from celery_flows.transitions.claim import claim
from celery_flows.transitions.hand_over import hand_over
from celery_flows.transitions.publish import Published, mark_published
from celery_flows.transitions.recover import take_overdue
from celery_flows.transitions.requeue import requeue
from celery_flows.transitions.retry_job import NextAttempt, retry_job


def put(database: Database, job_id: str, state: JobState) -> None:
    """Set a job to a state, as if it had come there."""

    def write(connection: Connection, tables: Tables) -> None:
        connection.execute(tables.jobs.update().where(tables.jobs.c.id == job_id).values(state=state))

    database.transact(write, database.tables)


def next_attempt(job_id: str, delivery: int = 1, token: str = "t") -> NextAttempt:
    """What a running job sends under its own id."""
    return NextAttempt(job_id, delivery, token, "shop.score", "[2]", '{"again": true}', '{"countdown": 3}')


# ---------------------------------------------------------------- claim


@pytest.mark.parametrize("state", [JobState.READY, JobState.QUEUED, JobState.RETRYING])
def test_a_delivered_job_is_claimed(database: Database, state: JobState) -> None:
    """A claim counts the attempt, notes the time and the token, and ends the publisher's business with the row."""
    _, [job] = running_batch(database)
    put(database, job, state)
    assert claim(database, job, 1, "t") == 1
    found = row(database, job)
    assert (found.state, found.attempt, found.token, found.publishing_since) == ("running", 1, "t", None)
    assert found.started_at is not None


@pytest.mark.parametrize("state", [JobState.WAITING, *TERMINAL])
def test_a_job_that_is_not_due_is_not_claimed(database: Database, state: JobState) -> None:
    """A job that waits, or has ended, lets its message go and stays as it is."""
    _, [job] = running_batch(database)
    put(database, job, state)
    assert claim(database, job, 1, "t") is None
    assert (state_of(database, job), row(database, job).attempt) == (state, 0)


def test_a_message_out_of_date_claims_nothing(database: Database) -> None:
    """Only the latest publish may claim: not an older delivery number, nor one that is not there yet."""
    _, [job] = running_batch(database)
    take_overdue(database, 0, 10)
    assert claim(database, job, 1, "t") is None
    assert claim(database, job, 3, "t") is None
    assert claim(database, job, 2, "t") == 1


def test_the_same_delivery_may_ask_again(database: Database) -> None:
    """A claim whose answer was lost succeeds with the same attempt."""
    _, [job] = running_batch(database)
    assert [claim(database, job, 1, "t") for _ in range(3)] == [1, 1, 1]
    assert row(database, job).attempt == 1


def test_another_delivery_of_a_running_job_is_refused(database: Database) -> None:
    """A duplicate that arrives while the job runs takes nothing away from it."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "mine")
    assert claim(database, job, 1, "another") is None
    assert row(database, job).token == "mine"


def test_an_unknown_job_is_not_claimed(database: Database) -> None:
    """A message without a row, because it was pruned, is let go."""
    assert claim(database, "nonsense", 1, "t") is None


# ---------------------------------------------------------------- requeue and hand over


def test_a_requeued_job_is_claimed_anew(database: Database) -> None:
    """The broker brings the same message again: the same delivery number, another token, the next attempt."""
    _, [job] = running_batch(database)
    mark_published(database, [Published(job, 1, "images")])
    claim(database, job, 1, "first")
    requeue(database, job, 1, "first")
    assert state_of(database, job) is JobState.QUEUED
    assert claim(database, job, 1, "second") == 2


def test_a_claim_that_was_forgotten_is_handed_on_all_the_same(database: Database) -> None:
    """A crash of the database forgot it: a retry, or what replaces the job, has the next delivery number."""
    _, jobs = running_batch(database, 3)
    mark_published(database, [Published(job, 1, "images") for job in jobs])
    retried, replaced, elsewhere = jobs
    assert [job.id for job in retry_job(database, next_attempt(retried))] == [retried]
    hand_over(database, replaced, 1, "t")
    claim(database, elsewhere, 1, "other")
    hand_over(database, elsewhere, 1, "t")
    assert [(row(database, job).state, row(database, job).delivery) for job in jobs] == [
        ("retrying", 2),
        ("retrying", 2),
        ("running", 1),
    ]


def requeued_before_its_mark(database: Database) -> str:
    """A job whose worker was faster than the publisher's mark, and gave it back."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "fast")
    requeue(database, job, 1, "fast")
    assert state_of(database, job) is JobState.READY
    return job


def test_a_requeued_job_whose_queue_nobody_knows_is_sent_again(database: Database) -> None:
    """Its publisher died before the mark: were the message gone, the sweep could not miss it in any queue."""
    job = requeued_before_its_mark(database)
    assert take_overdue(database, 60, 10) == []
    age(database, "publishing_since", [job], 61)
    assert [(one.id, one.delivery) for one in take_overdue(database, 60, 10)] == [(job, 2)]
    assert claim(database, job, 1, "old") is None
    assert claim(database, job, 2, "new") == 2


def test_the_mark_of_a_requeued_job_may_come_late(database: Database) -> None:
    """Then the queue is known, and nobody sends the job a second time."""
    job = requeued_before_its_mark(database)
    mark_published(database, [Published(job, 1, "images")])
    found = row(database, job)
    assert (found.state, found.queue, found.publishing_since) == ("queued", "images", None)
    assert claim(database, job, 1, "again") == 2


def test_a_job_that_is_run_again_here_shows_as_retrying(database: Database) -> None:
    """An eager retry has no message: the row only says that it goes on."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "t")
    requeue(database, job, 1, "t", to=JobState.RETRYING)
    assert (state_of(database, job), row(database, job).publishing_since) == (JobState.RETRYING, None)


@pytest.mark.parametrize("end", [requeue, hand_over])
def test_only_the_holder_gives_a_claim_back(database: Database, end) -> None:  # type: ignore[no-untyped-def]
    """A claim that was taken over is not ended by who had it before."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "mine")
    end(database, job, 1, "another")
    end(database, job, 2, "mine")
    assert (state_of(database, job), row(database, job).delivery) == (JobState.RUNNING, 1)


def test_a_job_handed_over_waits_for_its_replacement(database: Database) -> None:
    """Under the next number: the old message is out of date, and nobody is to publish anything."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "t")
    for _ in range(2):
        hand_over(database, job, 1, "t")
    found = row(database, job)
    assert (found.state, found.delivery, found.token, found.publishing_since) == ("retrying", 2, None, None)
    assert claim(database, job, 1, "t") is None
    assert claim(database, job, 2, "new") == 2


# ---------------------------------------------------------------- retry


def test_the_next_attempt_is_written_before_it_is_published(database: Database) -> None:
    """After a retry the row holds the next message, and whoever publishes it owns it."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "t")
    [ready] = retry_job(database, next_attempt(job))
    found = row(database, job)
    assert (found.state, found.delivery, found.token, found.attempt) == ("retrying", 2, None, 1)
    assert (found.args, found.kwargs, found.options) == ("[2]", '{"again": true}', '{"countdown": 3}')
    assert found.publishing_since is not None
    assert (ready.id, ready.delivery, ready.args, ready.state) == (job, 2, "[2]", "retrying")


def test_a_fast_worker_claims_before_the_publish_is_marked(database: Database) -> None:
    """A claim between publish and mark finds the row retrying, and the late mark does not move it backwards."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "t")
    ready = retry_job(database, next_attempt(job))
    assert claim(database, job, 2, "fast") == 2
    mark_published(database, map(Published.of, ready))
    assert (state_of(database, job), row(database, job).token) == (JobState.RUNNING, "fast")


def test_a_retry_that_is_asked_twice_is_one(database: Database) -> None:
    """The answer may be lost: the second time gives the same job to publish, under the same number."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "t")
    assert retry_job(database, next_attempt(job)) == retry_job(database, next_attempt(job))
    assert row(database, job).delivery == 2


def test_who_lost_the_claim_retries_nothing(database: Database) -> None:
    """A retry by a stale claim writes nothing, and there is nothing to publish."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "mine")
    assert retry_job(database, next_attempt(job, token="another")) == []
    assert retry_job(database, next_attempt(job, delivery=2, token="mine")) == []
    assert (state_of(database, job), row(database, job).args) == (JobState.RUNNING, "[1]")


def test_a_published_retry_stays_retrying_until_it_is_claimed(database: Database) -> None:
    """The mark takes it out of the sweep's reach and leaves its state."""
    _, [job] = running_batch(database)
    claim(database, job, 1, "t")
    ready = retry_job(database, next_attempt(job))
    mark_published(database, map(Published.of, ready))
    assert (state_of(database, job), row(database, job).publishing_since) == (JobState.RETRYING, None)
    assert ids(take_overdue(database, 0, 10)) == []
