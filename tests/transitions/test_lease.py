"""Lease: a worker process lives as long as its row says so, by the database's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from locks import beside, on_servers, opened, outcome, wait_for_waiter
from scenes import (
    add_callback,
    count,
    enroll_jobs,
    fate_of,
    ids,
    make_batch,
    row,
    run_job,
    running_batch,
    state_of,
)

from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import leases
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow
from celery_flows.store.workers import SWEEP
from celery_flows.transitions import lease as lease_module
from celery_flows.transitions.claim import Holder, claim, may_claim_later
from celery_flows.transitions.lease import expire, mark_gone, mark_reserved, renew, retire
from celery_flows.transitions.lose import LossPolicy
from celery_flows.transitions.recover import take_turn
from celery_flows.transitions.requeue import requeue
from celery_flows.transitions.retry_job import NextAttempt, retry_job
from celery_flows.transitions.settle import settle
from celery_flows.transitions.stream import open_stream

#: Long enough that no test outlasts it.
LEASE = 600.0

FAIL, RETRY = LossPolicy("fail", 3), LossPolicy("retry", 3)


def worker(database: Database, *, silent: float = 0.0) -> str:
    """A worker process that was last heard of so many seconds ago."""
    worker_id = new_id()
    renew(database, worker_id, "host", 42, LEASE)
    set_moment(database, worker_id, "heartbeat_at", silent)
    return worker_id


def set_moment(database: Database, worker_id: str, column: str, ago: float) -> None:
    """Let a moment of a worker's row, or the sweep's, be so many seconds ago."""

    def write(connection: Connection, tables: Tables) -> None:
        moment = connection.scalar(sa.select(utcnow())) - timedelta(seconds=ago)
        statement = tables.workers.update().where(tables.workers.c.id == worker_id)
        connection.execute(statement.values({column: moment}))

    database.transact(write, database.tables)


def calm(database: Database) -> str:
    """A world in which workers have been heard for long: there is a sweep, and one that lives; its id."""
    alive = worker(database)
    take_turn(database, 0)
    set_moment(database, SWEEP, "started_at", 2 * LEASE)
    return alive


def held(database: Database, worker_id: str, *, late: bool = False, token: str = "t") -> tuple[str, str]:
    """A batch, and its job, which runs on a worker that lives at this moment."""
    batch, [job] = running_batch(database)
    renew(database, worker_id, "host", 42, LEASE)
    assert claim(database, job, 1, token, Holder(worker_id, LEASE, late)) == 1
    return batch, job


def lost(database: Database, policy: LossPolicy = FAIL) -> list[str]:
    """The jobs that a sweep gives up."""
    return [one.job_id for one in expire(database, LEASE, policy).lost]


# ---------------------------------------------------------------- the claim


def test_a_claim_needs_a_live_lease(database: Database) -> None:
    """Under a lease that has run out, or that never was, nothing is claimed; the job waits for a renewal."""
    _, [job] = running_batch(database)
    silent = worker(database, silent=LEASE + 1)
    for worker_id in (silent, new_id()):
        assert claim(database, job, 1, "t", Holder(worker_id, LEASE)) is None
        assert (state_of(database, job), row(database, job).attempt) == (JobState.READY, 0)
        assert may_claim_later(database, job, 1)
    renew(database, silent, "host", 42, LEASE)
    assert claim(database, job, 1, "t", Holder(silent, LEASE, True, "retry")) == 1
    found = row(database, job)
    assert (found.worker_id, found.is_late, found.on_loss) == (silent, 1, "retry")


def test_a_claim_that_is_refused_for_good_is_not_tried_later(database: Database) -> None:
    """A duplicate, a message out of date and an ended job are no matter of leases."""
    batch, [running, ended, stale] = running_batch(database, 3)
    me = worker(database)
    claim(database, running, 1, "t", Holder(me, LEASE))
    run_job(database, ended, batch)
    requeue(database, stale, 1, "nobody")
    assert not any(
        may_claim_later(database, job, number) for job, number in ((running, 1), (ended, 1), (stale, 2))
    )
    assert may_claim_later(database, stale, 1)


def test_the_same_delivery_can_not_ask_again_without_a_lease(database: Database) -> None:
    """A claim that is repeated must be under a live lease too: the job may have been given up meanwhile."""
    me = worker(database)
    _, job = held(database, me)
    set_moment(database, me, "heartbeat_at", LEASE + 1)
    assert claim(database, job, 1, "t", Holder(me, LEASE)) is None


def test_outside_of_workers_no_lease_is_asked_for(database: Database) -> None:
    """An eager app's own process claims under no lease, and is never given up."""
    calm(database)
    _, [job] = running_batch(database)
    assert claim(database, job, 1, "t") == 1
    assert (lost(database), row(database, job).worker_id) == ([], None)


@pytest.mark.parametrize("how", ["complete", "failed", "requeue", "retry"])
def test_what_no_longer_runs_is_no_longer_held(database: Database, how: str) -> None:
    """An ended job, and one that waits for its next attempt, do not die with the worker that ran them."""
    calm(database)
    me = worker(database)
    batch, job = held(database, me, token="worker")
    if how == "requeue":
        requeue(database, job, 1, "worker")
    elif how == "retry":
        retry_job(database, NextAttempt(job, 1, "worker", "shop.score", "[1]", "{}", "{}"))
    else:
        settle(database, Ending(job, JobState(how), delivery=1, token="worker"), batch_id=batch)
    assert row(database, job).worker_id is None
    before = row(database, job)
    set_moment(database, me, "heartbeat_at", LEASE + 1)
    assert (lost(database), row(database, job)) == ([], before)


# ---------------------------------------------------------------- silence


def test_a_silent_workers_jobs_are_given_up(database: Database) -> None:
    """Those of a worker that lives are not; the dead one's row is gone, and a second sweep finds nothing."""
    alive, dead = calm(database), worker(database)
    batch, job = held(database, dead)
    _, other = held(database, alive)
    failure = add_callback(database, batch, "failure")
    assert lost(database) == []
    set_moment(database, dead, "heartbeat_at", LEASE + 1)
    expired = expire(database, LEASE, FAIL)
    assert ([one.job_id for one in expired.lost], ids(expired.ready)) == ([job], [failure])
    assert (state_of(database, job), state_of(database, other)) == (JobState.FAILED, JobState.RUNNING)
    assert f"not heard of for {LEASE:g} s" in row(database, job).error_message
    with database.reading() as connection:
        assert [found.id for found in leases.every(connection, database.tables)] == [alive]
    assert lost(database) == []


def test_a_dead_workers_jobs_go_by_how_they_were_delivered(database: Database) -> None:
    """Acknowledged late, a job runs again; early, its policy decides."""
    calm(database)
    dead = worker(database)
    _, early = held(database, dead)
    _, late = held(database, dead, late=True)
    set_moment(database, dead, "heartbeat_at", LEASE + 1)
    expired = expire(database, LEASE, FAIL)
    assert {(one.job_id, one.is_again) for one in expired.lost} == {(early, False), (late, True)}
    assert ids(expired.ready) == [late]


def test_a_missing_row_means_dead(database: Database) -> None:
    """A job that runs under a lease nobody has written, or somebody has deleted, is given up."""
    calm(database)
    gone = worker(database)
    _, job = held(database, gone)
    database.transact(leases.end, database.tables, gone, 0)
    assert lost(database) == [job]


def test_more_jobs_than_a_chunk_are_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A threads or gevent worker may have run many."""
    monkeypatch.setattr(lease_module, "_CHUNK", 2)
    calm(database)
    dead = worker(database)
    jobs = [held(database, dead)[1] for _ in range(5)]
    set_moment(database, dead, "heartbeat_at", LEASE + 1)
    assert sorted(lost(database)) == sorted(jobs)


def test_what_waited_in_a_dead_workers_memory_is_sent_again(database: Database) -> None:
    """It was never claimed, so it is not lost: it is published again, under the next number."""
    calm(database)
    dead = worker(database)
    batch, [job] = running_batch(database)
    mark_reserved(database, dead, {job: 1})
    set_moment(database, dead, "heartbeat_at", LEASE + 1)
    expired = expire(database, LEASE, FAIL)
    assert (expired.lost, [(one.id, one.delivery) for one in expired.ready]) == ([], [(job, 2)])
    assert (row(database, job).losses, fate_of(database, batch)) == (0, (BatchState.RUNNING, False))


def test_what_a_living_worker_has_no_more_waits_in_nobodys_memory(database: Database) -> None:
    """It lost its broker, and forgot what it had not begun; what it has claimed meanwhile, it has."""
    me, other = worker(database), worker(database)
    _, [gone, begun, elsewhere] = running_batch(database, 3)
    mark_reserved(database, me, {gone: 1, begun: 1, elsewhere: 1})
    assert claim(database, begun, 1, "t", Holder(me, LEASE)) == 1
    mark_reserved(database, other, {elsewhere: 1})
    mark_gone(database, me, {gone: 1, begun: 1, elsewhere: 1})
    assert [row(database, one).worker_id for one in (gone, begun, elsewhere)] == [None, me, other]


def test_a_producer_that_died_leaves_an_abandoned_batch(database: Database) -> None:
    """An open streaming block holds a lease of its own: the batch fails, and waits for what was enrolled."""
    calm(database)
    batch, block = make_batch(database), new_id()
    renew(database, block, "host", 42, LEASE)
    database.transact(open_stream, database.tables, block, batch, starts=True)
    [job] = enroll_jobs(database, batch, 1, starts=False)
    assert lost(database) == []
    set_moment(database, block, "heartbeat_at", LEASE + 1)
    assert lost(database) == [block]
    assert (fate_of(database, batch), row(database, block).error_class) == (
        (BatchState.FAILED, False),
        "EnrolmentAbandoned",
    )
    run_job(database, job, batch)
    assert fate_of(database, batch) == (BatchState.FAILED, True)


# ---------------------------------------------------------------- pauses


def test_nothing_expires_right_after_nobody_was_heard(database: Database) -> None:
    """The database was away: after it, and before anybody has noted that, nothing expires for a lease's time."""
    first, second = calm(database), worker(database)
    _, job = held(database, second)
    for one in (first, second):
        set_moment(database, one, "heartbeat_at", 2 * LEASE)
    assert lost(database) == []
    renew(database, first, "host", 42, LEASE)
    assert lost(database) == []
    set_moment(database, SWEEP, "started_at", LEASE - 60)
    assert lost(database) == []
    set_moment(database, SWEEP, "started_at", LEASE + 60)
    renew(database, first, "host", 42, LEASE)
    assert lost(database) == [job]


def test_a_pause_a_little_shorter_than_a_lease_counts_too(database: Database) -> None:
    """Who was heard a little before it would otherwise lose its lease with the first who comes back."""
    first, second = calm(database), worker(database)
    held(database, second)
    set_moment(database, first, "heartbeat_at", 0.9 * LEASE)
    set_moment(database, second, "heartbeat_at", 1.1 * LEASE)
    assert lost(database) == []
    renew(database, first, "host", 42, LEASE)
    assert lost(database) == []


def test_one_heartbeat_among_others_is_no_pause(database: Database) -> None:
    """While anybody is heard, the silent ones are dead."""
    alive, dead = calm(database), worker(database)
    _, job = held(database, dead)
    set_moment(database, dead, "heartbeat_at", LEASE + 1)
    renew(database, alive, "host", 42, LEASE)
    assert lost(database) == [job]


def test_before_the_first_sweep_nothing_expires(database: Database) -> None:
    """Nobody knows yet for how long anybody could be heard."""
    worker(database)
    dead = worker(database)
    held(database, dead)
    set_moment(database, dead, "heartbeat_at", LEASE + 1)
    assert lost(database) == []


# ---------------------------------------------------------------- coming back


def test_a_worker_that_was_given_up_begins_anew(database: Database) -> None:
    """It renews under its old id, which writes its row again, and takes jobs again."""
    calm(database)
    me = worker(database)
    _, job = held(database, me)
    set_moment(database, me, "heartbeat_at", LEASE + 1)
    assert lost(database) == [job]
    assert held(database, me)[1] != job
    assert lost(database) == []


def test_what_a_worker_claims_after_it_came_back_is_its_own(database: Database) -> None:
    """The sweep had ended its lease and was about to give up its jobs: the old ones, not the new."""
    calm(database)
    me = worker(database)
    _, old = held(database, me, token="old")
    set_moment(database, me, "heartbeat_at", LEASE + 1)
    database.transact(leases.end, database.tables, me, LEASE)
    _, new = held(database, me, token="new")
    with database.reading() as connection:
        left = leases.left_by(connection, database.tables, me, "", 10)
    assert [one.id for one in left] == [old]
    assert state_of(database, new) is JobState.RUNNING


def test_a_lease_that_was_renewed_meanwhile_is_not_ended(database: Database) -> None:
    """The sweep had seen it run out; when it comes to end it, the row is fresh."""
    me = worker(database)
    assert database.transact(leases.end, database.tables, me, LEASE) is False
    assert count(database, "workers") == 1


@on_servers
def test_who_renews_at_this_moment_keeps_its_lease(database: Database) -> None:
    """The renewal holds the row: the sweep waits for it, and then finds it fresh and all its jobs running."""
    calm(database)
    me = worker(database)
    _, job = held(database, me)
    set_moment(database, me, "heartbeat_at", LEASE + 1)
    with opened(database) as connection:
        leases.renew(connection, database.tables, me, "host", 42)
        expiring = beside(lost, database)
        wait_for_waiter(database)
    assert outcome(expiring) == []
    assert state_of(database, job) is JobState.RUNNING


# ---------------------------------------------------------------- stopping


def test_a_worker_that_stops_hands_back_its_jobs(database: Database) -> None:
    """Its row is gone; what it ran goes as if it had died, and what it had in memory is nobody's."""
    me = worker(database)
    _, early = held(database, me)
    _, late = held(database, me, late=True)
    _, [reserved] = running_batch(database)
    mark_reserved(database, me, {reserved: 1})
    left = retire(database, me, FAIL)
    assert {(one.job_id, one.is_again) for one in left.lost} == {(early, False), (late, True)}
    assert (ids(left.ready), count(database, "workers")) == ([late], 0)
    assert (row(database, reserved).worker_id, row(database, reserved).delivery) == (None, 1)
    assert retire(database, me, FAIL) == ([], [])
