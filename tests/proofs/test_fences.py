"""Each guard that a late message needs is needed: without it a scene goes wrong that goes right with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from scenes import enroll_jobs, fate_of, make_batch, row, running_batch, state_of

from celery_flows.errors import EnrolmentAbandoned
from celery_flows.states import BatchState, JobState
from celery_flows.store import jobs, leases, publishing
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import Published
from celery_flows.store.statements import word
from celery_flows.store.tables import Tables
from celery_flows.transitions.claim import Holder, claim
from celery_flows.transitions.lease import expire, renew
from celery_flows.transitions.lose import LossPolicy, lose
from celery_flows.transitions.publish import mark_published
from celery_flows.transitions.recover import take_turn
from celery_flows.transitions.retry_job import NextAttempt, retry_job
from celery_flows.transitions.settle import settle
from celery_flows.transitions.stream import abandon_stream, close_stream, open_stream

LEASE = 60.0

with_and_without = pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "unguarded"])


def unconditional(tables: Tables, **values: Any) -> sa.Update:
    """An UPDATE of one job that asks for nothing else."""
    return tables.jobs.update().where(tables.jobs.c.id == sa.bindparam("at_id")).values(**values)


def taken_away(database: Database) -> tuple[str, str]:
    """A job that was given up while its worker was stopped, and runs a second time."""
    batch, [job] = running_batch(database)
    claim(database, job, 1, "first")
    lose(database, job, "first", LossPolicy("retry", 3), "it was stopped")
    assert claim(database, job, 2, "second") == 2
    return batch, job


@with_and_without
@pytest.mark.parametrize("outcome", [JobState.COMPLETE, JobState.FAILED])
def test_the_fence_in_settle(
    database: Database, monkeypatch: pytest.MonkeyPatch, outcome: JobState, is_guarded: bool
) -> None:
    """A job that was given up and runs again is not ended by a worker that it was taken from."""
    if not is_guarded:
        monkeypatch.setattr(jobs, "complete", lambda tables, _: unconditional(tables, state=word(outcome)))
        monkeypatch.setattr(jobs, "_end", lambda tables: unconditional(tables, state=word(outcome)))
    batch, job = taken_away(database)
    settle(database, Ending(job, outcome, delivery=1, token="first"), batch_id=batch)
    assert (fate_of(database, batch) == (BatchState.RUNNING, False)) is is_guarded


@with_and_without
def test_the_fence_in_retry(database: Database, monkeypatch: pytest.MonkeyPatch, is_guarded: bool) -> None:
    """Nor does that worker's retry end the second run's claim."""
    if not is_guarded:
        again = {"state": word(JobState.RETRYING), "delivery": sa.literal_column("3"), "token": None}
        monkeypatch.setattr(jobs, "retry", lambda tables, _: unconditional(tables, **again))
    _, job = taken_away(database)
    retry_job(database, NextAttempt(job, 1, "first", "shop.score", "[2]", "{}", "{}"))
    assert (row(database, job).token == "second") is is_guarded


@with_and_without
def test_the_fence_in_a_stream(database: Database, monkeypatch: pytest.MonkeyPatch, is_guarded: bool) -> None:
    """A producer that was given up does not take back that its batch has failed by it."""
    if not is_guarded:
        monkeypatch.setattr(jobs, "hold_running", lambda *_: True)
    batch = make_batch(database)
    enroll_jobs(database, batch, 1)
    database.transact(open_stream, database.tables, "block", batch, starts=False)
    abandon_stream(database, "block", batch, "its producer died.")
    try:
        close_stream(database, "block", batch)
    except EnrolmentAbandoned:
        assert is_guarded
    else:
        assert not is_guarded


@with_and_without
def test_the_pause(database: Database, monkeypatch: pytest.MonkeyPatch, is_guarded: bool) -> None:
    """The first worker that reaches the database again does not give up those who are about to."""
    if not is_guarded:
        monkeypatch.setattr(leases, "is_calm", lambda *_: True)
    _, [job] = running_batch(database)
    take_turn(database, 0)
    for worker in ("one", "two"):
        renew(database, worker, "host", 1, LEASE)
    claim(database, job, 1, "t", Holder("two", LEASE))
    silence(database, "one")
    silence(database, "two")
    renew(database, "one", "host", 1, LEASE)
    expire(database, LEASE, LossPolicy("fail", 3))
    assert (state_of(database, job) is JobState.RUNNING) is is_guarded


@with_and_without
@pytest.mark.parametrize("number", [1, 2], ids=["one", "several"])
def test_the_condition_of_the_publish_mark(
    database: Database, monkeypatch: pytest.MonkeyPatch, is_guarded: bool, number: int
) -> None:
    """A worker that was faster than the mark keeps its job: a second message does not get it."""

    def mark(connection: Connection, tables: Tables, published: Sequence[Published]) -> None:
        for one in published:
            connection.execute(unconditional(tables, state=JobState.QUEUED), {"at_id": one.job_id})

    if not is_guarded:
        monkeypatch.setattr(publishing, "mark_queued", mark)
        monkeypatch.setattr(
            publishing, "mark_one", lambda tables, _: unconditional(tables, state=word(JobState.QUEUED))
        )
    _, [job, *others] = running_batch(database, number)
    assert claim(database, job, 1, "fast") == 1
    mark_published(database, [Published(one, 1) for one in (job, *others)])
    assert (claim(database, job, 1, "duplicate") is None) is is_guarded


def claim_without(*conditions: str) -> Callable[[Tables, str], Any]:
    """The claim, with some of its conditions met by whatever there is."""
    whole = jobs.claim

    def claim_anyhow(tables: Tables, dialect: str) -> Any:
        statement = whole(tables, dialect)
        kept = [one for one in statement._where_criteria if not any(name in str(one) for name in conditions)]
        assert len(kept) == len(statement._where_criteria) - len(conditions)
        statement._where_criteria = tuple(kept)
        return statement

    return claim_anyhow


@with_and_without
def test_the_state_in_the_claim(database: Database, monkeypatch: pytest.MonkeyPatch, is_guarded: bool) -> None:
    """The same message twice at once is one run."""
    if not is_guarded:
        monkeypatch.setattr(jobs, "claim", claim_without("at_token"))
    _, [job] = running_batch(database)
    assert claim(database, job, 1, "first") == 1
    assert (claim(database, job, 1, "second") is None) is is_guarded


@with_and_without
def test_the_delivery_in_the_claim(database: Database, monkeypatch: pytest.MonkeyPatch, is_guarded: bool) -> None:
    """An old message does not run the next attempt, before its time and with the old arguments."""
    if not is_guarded:
        monkeypatch.setattr(jobs, "claim", claim_without("at_delivery"))
    _, [job] = running_batch(database)
    claim(database, job, 1, "first")
    retry_job(database, NextAttempt(job, 1, "first", "shop.score", "[2]", "{}", "{}"))
    assert (claim(database, job, 1, "redelivered") is None) is is_guarded


@with_and_without
def test_the_lease_in_the_claim(database: Database, monkeypatch: pytest.MonkeyPatch, is_guarded: bool) -> None:
    """A worker that was given up takes nothing more, as that would be given up while it runs."""
    if not is_guarded:
        monkeypatch.setattr(jobs, "claim", claim_without("at_worker"))
    _, [job] = running_batch(database)
    take_turn(database, 0)
    for worker in ("living", "stopped"):
        renew(database, worker, "host", 1, LEASE)
    silence(database, "stopped")
    expire(database, LEASE, LossPolicy("fail", 3))
    is_taken = claim(database, job, 1, "late", Holder("stopped", LEASE)) is not None
    assert is_taken is not is_guarded
    assert expire(database, LEASE, LossPolicy("fail", 3)).lost == [] or not is_guarded
    assert state_of(database, job) == (JobState.READY if is_guarded else JobState.FAILED)


def silence(database: Database, worker_id: str) -> None:
    """Let a worker have been silent for long, while others were heard all the time."""
    workers = database.tables.workers

    def write(connection: Connection) -> None:
        long_ago = connection.scalar(sa.select(sa.func.min(workers.c.started_at)))
        assert long_ago is not None
        old = long_ago.replace(year=2020)
        connection.execute(workers.update().where(workers.c.id == worker_id).values(heartbeat_at=old))
        connection.execute(workers.update().where(workers.c.id == "sweep").values(started_at=old))

    database.transact(write)
