"""Settle: a job gets its one outcome, fenced, and only from who holds it."""

from __future__ import annotations

from itertools import permutations

import pytest
from scenes import batch_row, call, enroll_jobs, fate_of, make_batch, row, running_batch, state_of, tally

from celery_flows.states import TERMINAL, BatchState, JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.transitions.claim import claim
from celery_flows.transitions.recover import take_overdue
from celery_flows.transitions.settle import settle

OUTCOMES = [JobState.COMPLETE, JobState.FAILED, JobState.CANCELLED]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_running_job_gets_its_outcome(database: Database, outcome: JobState) -> None:
    """The outcome, its time and what went wrong are written, and the generated column follows."""
    batch, [job, _] = running_batch(database, 2)
    claim(database, job, 1, "t")
    settle(database, Ending(job, outcome, "ValueError", "no such user", 1, "t"), batch_id=batch)
    found = row(database, job)
    assert (found.state, found.outcome) == (outcome, outcome)
    assert found.ended_at is not None
    if outcome is not JobState.COMPLETE:
        assert (found.error_class, found.error_message, found.wrong) == ("ValueError", "no such user", 1)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_the_holder_settles(database: Database, outcome: JobState) -> None:
    """Another token, another delivery, or no claim at all: the running job runs on."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "mine")
    for delivery, token in [(1, "another"), (2, "mine"), (1, None)]:
        assert settle(database, Ending(job, outcome, delivery=delivery, token=token), batch_id=batch) == []
    assert state_of(database, job) is JobState.RUNNING
    assert fate_of(database, batch) == (BatchState.RUNNING, False)


@pytest.mark.parametrize(("first", "second"), [*permutations(OUTCOMES, 2), (OUTCOMES[0], OUTCOMES[0])])
def test_an_outcome_is_final(database: Database, first: JobState, second: JobState) -> None:
    """Settled twice, by whomever, a job keeps its first outcome, and its batch its fate and times."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "t")
    settle(database, Ending(job, first, delivery=1, token="t"), batch_id=batch)
    before = batch_row(database, batch)
    assert settle(database, Ending(job, second, delivery=1, token="t"), batch_id=batch) == []
    assert state_of(database, job) is first
    assert batch_row(database, batch) == before


@pytest.mark.parametrize("outcome", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_nobody_claimed_ends_without_a_token(database: Database, outcome: JobState) -> None:
    """Revoked, expired, unregistered: the main process ends what no child has claimed, by delivery number."""
    batch, [job] = running_batch(database)
    settle(database, Ending(job, outcome, delivery=2, token="t"), batch_id=batch)
    assert state_of(database, job) is JobState.READY
    settle(database, Ending(job, outcome, delivery=1, token="t"), batch_id=batch)
    assert (state_of(database, job), row(database, job).publishing_since) == (outcome, None)
    assert take_overdue(database, 0, 10) == []


def test_a_success_whose_claim_was_forgotten_is_accepted(database: Database) -> None:
    """A crash of the database may forget a claim: who runs that delivery ends it all the same, and no other."""
    batch, [job] = running_batch(database)
    settle(database, Ending(job, JobState.COMPLETE, delivery=2, token="t"), batch_id=batch)
    assert state_of(database, job) is JobState.READY
    settle(database, Ending(job, JobState.COMPLETE, delivery=1, token="t"), batch_id=batch)
    assert state_of(database, job) is JobState.COMPLETE
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


def test_a_success_is_only_for_who_ran_it(database: Database) -> None:
    """Where another delivery has claimed the job, whoever says that it is complete is not believed."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "t")
    settle(database, Ending(job, JobState.COMPLETE, delivery=1, token="other"), batch_id=batch)
    assert state_of(database, job) is JobState.RUNNING


def test_what_goes_wrong_is_counted_once(database: Database) -> None:
    """A batch with a tolerance counts each job once, however often its end is told."""
    batch, [job, _] = running_batch(database, 2, tolerate="5")
    claim(database, job, 1, "t")
    for _ in range(3):
        settle(database, Ending(job, JobState.FAILED, delivery=1, token="t"), batch_id=batch)
    assert tally(database, batch) == (0, 1)


def test_an_ended_job_expires_no_more(database: Database) -> None:
    """What is over leaves the index in which the sweep looks for expired jobs."""
    batch = make_batch(database)
    jobs = enroll_jobs(database, batch, [call(batch, expires_at="2031-01-01T00:00:00+00:00") for _ in OUTCOMES])
    for job, outcome in zip(jobs, OUTCOMES, strict=True):
        claim(database, job, 1, "t")
        settle(database, Ending(job, outcome, delivery=1, token="t"), batch_id=batch)
        assert row(database, job).outcome in TERMINAL
        assert row(database, job).expires_at is None
