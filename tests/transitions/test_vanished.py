"""Jobs whose messages are gone from their queues are published again, and no others."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from scenes import age, call, enroll_jobs, make_batch, row, running_batch, state_of

from celery_flows.codec import encode
from celery_flows.states import JobState
from celery_flows.store.database import Connection, Database
from celery_flows.store.leases import renew
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow
from celery_flows.transitions.claim import Holder, claim
from celery_flows.transitions.hand_over import hand_over
from celery_flows.transitions.lease import mark_reserved
from celery_flows.transitions.publish import Published, mark_published
from celery_flows.transitions.recover import take_vanished
from celery_flows.transitions.retry_job import NextAttempt, retry_job


def queued(database: Database, jobs: list[str], *, queue: str = "celery", delay: float = 0.0) -> None:
    """Jobs whose messages went to a queue 100 seconds ago."""
    mark_published(database, [Published(job, 1, queue, delay) for job in jobs])
    age(database, "queued_at", jobs, 100 - delay)


def taken(database: Database, after: float = 50, *, empty: bool = True) -> list[ReadyJob]:
    """What the sweep takes over."""
    return [job for chunk in take_vanished(database, after, 10, lambda _queue: empty) for job in chunk]


def test_a_job_of_an_empty_queue_is_published_again(database: Database) -> None:
    """It is ready under the next delivery number, so that its first message, if it turns up, is dropped."""
    _, [job] = running_batch(database)
    queued(database, [job])
    assert [(one.id, one.delivery) for one in taken(database)] == [(job, 2)]
    assert state_of(database, job) is JobState.READY
    assert claim(database, job, 1, "late") is None
    assert taken(database) == []


def test_age_alone_takes_nothing(database: Database) -> None:
    """In a long backlog every message is old: while the queue holds any, none is sent twice."""
    _, jobs = running_batch(database, 3)
    queued(database, jobs)
    assert taken(database, empty=False) == []


def runs(database: Database, since: float, *, queue: str = "celery") -> None:
    """A job runs whose message was queued so many seconds ago."""
    _, [job] = running_batch(database)
    mark_published(database, [Published(job, 1, queue)])
    database.transact(renew, database.tables, "worker", "host", 1)
    assert claim(database, job, 1, "t", Holder("worker", 60.0)) == 1
    age(database, "queued_at", [job], since)


def test_a_job_that_was_overtaken_is_published_again(database: Database) -> None:
    """The queue has been read to a message that came much later: what was before it and nobody has is gone."""
    _, [job] = running_batch(database)
    queued(database, [job])
    runs(database, since=30)
    assert [(one.id, one.delivery) for one in taken(database, empty=False)] == [(job, 2)]
    assert taken(database, empty=False) == []


def test_a_job_that_was_overtaken_by_little_is_left_alone(database: Database) -> None:
    """Workers read ahead, and messages of one moment run in any order."""
    _, [job] = running_batch(database)
    queued(database, [job])
    runs(database, since=60)
    assert taken(database, empty=False) == []


def test_a_job_that_was_overtaken_elsewhere_is_left_alone(database: Database) -> None:
    """How far one queue has been read says nothing of another."""
    _, [job] = running_batch(database)
    queued(database, [job])
    runs(database, since=1, queue="other")
    assert taken(database, empty=False) == []


def test_who_has_a_priority_may_be_overtaken(database: Database) -> None:
    """Others go first by right; more of them than are looked at in one go hide nothing."""
    batch = make_batch(database)
    options = [encode({"priority": 9})] * 12 + ["{}"]
    calls = [call(batch)._replace(options=one) for one in options]
    jobs = enroll_jobs(database, batch, calls)
    queued(database, jobs)
    runs(database, since=1)
    assert [one.id for one in taken(database, empty=False)] == [jobs[-1]]


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_long_backlog_is_not_doubled(database: Database) -> None:
    """A hundred thousand old messages, of which the first run: none is sent again."""
    number = 100_000
    batch = make_batch(database)
    jobs = enroll_jobs(database, batch, (call(batch) for _ in range(number)))
    database.transact(_queue_all, database.tables)
    claim_first(database, jobs[:4])
    assert taken(database, empty=False) == []


def _queue_all(connection: Connection, tables: Tables) -> None:
    queued_at = connection.scalar(sa.select(utcnow())) - timedelta(hours=3)
    values = {"state": JobState.QUEUED, "queue": "celery", "queued_at": queued_at, "publishing_since": None}
    connection.execute(tables.jobs.update().values(values))


def claim_first(database: Database, jobs: list[str]) -> None:
    """A worker runs the oldest."""
    database.transact(renew, database.tables, "worker", "host", 1)
    for job in jobs:
        assert claim(database, job, 1, "t", Holder("worker", 60.0)) == 1


def test_a_young_job_is_left_alone(database: Database) -> None:
    """A message may be between the queue and a worker at this moment."""
    _, [job] = running_batch(database)
    queued(database, [job])
    assert taken(database, after=200) == []


def test_a_job_that_waits_for_its_time_is_left_alone(database: Database) -> None:
    """A countdown is spent in a worker's memory, with the queue empty: the wait counts from its end."""
    _, [job] = running_batch(database)
    queued(database, [job], delay=90)
    assert taken(database) == []


def test_a_job_in_a_workers_memory_is_left_alone(database: Database) -> None:
    """What a worker has received is not in the queue and not lost."""
    _, [job] = running_batch(database)
    queued(database, [job])
    mark_reserved(database, "worker", {job: 1})
    assert taken(database) == []


def test_a_claimed_job_is_left_alone(database: Database) -> None:
    """It runs."""
    _, [job] = running_batch(database)
    queued(database, [job])
    claim(database, job, 1, "t")
    assert taken(database) == []


def test_each_further_publish_waits_twice_as_long(database: Database) -> None:
    """A queue that swallows everything is not flooded."""
    _, [job] = running_batch(database)
    queued(database, [job])
    [again] = taken(database)
    mark_published(database, [Published(job, again.delivery, "celery")])
    age(database, "queued_at", [job], 70)
    assert taken(database) == []
    age(database, "queued_at", [job], 110)
    assert [one.delivery for one in taken(database)] == [3]
    assert row(database, job).publishing_since is not None


def test_a_retry_whose_message_is_gone_is_published_again(database: Database) -> None:
    """It stays retrying, under the next delivery number; while it is yet to be published it is left alone."""
    _, [job] = running_batch(database)
    queued(database, [job])
    claim(database, job, 1, "t")
    again = retry_job(database, NextAttempt(job, 1, "t", "shop.score", "[1]", "{}", "{}"))
    assert taken(database) == []
    mark_published(database, [Published(job, again[0].delivery, "celery")])
    age(database, "queued_at", [job], 110)
    assert [(one.id, one.delivery) for one in taken(database)] == [(job, 3)]
    assert state_of(database, job) is JobState.RETRYING


def test_a_job_that_a_canvas_replaces_is_left_alone(database: Database) -> None:
    """Its message comes from Celery, when the canvas has got so far."""
    _, [job] = running_batch(database)
    queued(database, [job])
    claim(database, job, 1, "t")
    hand_over(database, job, 1, "t")
    assert taken(database) == []
