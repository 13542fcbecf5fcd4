"""Reopen: a finished batch runs again in a new round, and with it the ancestors that failed by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from scenes import (
    add_callback,
    age,
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

from celery_flows.errors import BatchNotFound, BatchUnfinished
from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import reopening
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.claim import claim
from celery_flows.transitions.finalize import advance
from celery_flows.transitions.recover import cancel_expired, take_overdue
from celery_flows.transitions.reopen import Mode, reopen

COMPLETE, FAILED = JobState.COMPLETE, JobState.FAILED


def with_outcomes(database: Database, **batch: str) -> tuple[str, dict[str, str]]:
    """A finished batch with a job of each outcome, skipped included, by outcome."""
    batch_id, jobs = running_batch(database, 4, **batch)
    by_outcome = dict(zip(("skipped", "complete", "failed", "cancelled"), jobs, strict=True))

    def skip(connection: Connection, tables: Tables) -> None:
        skipped = tables.jobs.update().where(tables.jobs.c.id == by_outcome["skipped"])
        connection.execute(skipped.values(state=JobState.SKIPPED, publishing_since=None, wrong=1))

    database.transact(skip, database.tables)
    for name, job in by_outcome.items():
        if name != "skipped":
            run_job(database, job, batch_id, JobState(name))
    return batch_id, by_outcome


def finished(database: Database, state: JobState = FAILED, **batch: str) -> tuple[str, str]:
    """A finished batch of one job, and the job."""
    batch_id, [job] = running_batch(database, **batch)
    run_job(database, job, batch_id, state)
    return batch_id, job


# ---------------------------------------------------------------- which jobs


@pytest.mark.parametrize(
    ("mode", "again"),
    [
        (Mode.FAILED, {"failed", "cancelled"}),
        (Mode.FAILED_AND_DOWNSTREAM, {"failed", "cancelled", "skipped"}),
        (Mode.ALL, {"failed", "cancelled", "skipped", "complete"}),
    ],
)
def test_each_mode_runs_its_jobs_again(database: Database, mode: Mode, again: set[str]) -> None:
    """The mode's jobs are ready under the next delivery number; the others keep their outcome."""
    batch, jobs = with_outcomes(database)
    assert reopen(database, batch, mode) == [batch]
    for name, job in jobs.items():
        found = row(database, job)
        assert (found.state, found.delivery) == (("ready", 2) if name in again else (name, 1))
        assert (found.publishing_since is not None, found.wrong) == (name in again, 0)
    assert fate_of(database, batch) == (BatchState.RUNNING, False)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_second_round_can_end_well(database: Database, mode: Mode) -> None:
    """When what runs again completes, so does the batch, whatever went wrong in the round before."""
    batch, _ = with_outcomes(database)
    reopen(database, batch, mode)
    with database.reading() as connection:
        jobs = ids(reopening.ready_after(connection, database.tables, batch, "", 10))
    for job in jobs:
        run_job(database, job, batch)
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


def test_a_job_begins_afresh(database: Database) -> None:
    """Its losses, its error and its old message are behind it; how often it was tried is history that stays."""
    batch, job = finished(database)
    reopen(database, batch, Mode.FAILED)
    found = row(database, job)
    assert (found.losses, found.error_class, found.error_message, found.ended_at) == (0, None, None, None)
    assert found.attempt == 1
    assert claim(database, job, 1, "old") is None
    assert claim(database, job, 2, "new") == 2


def test_an_expiry_of_the_last_round_does_not_count(database: Database) -> None:
    """A job cancelled because it expired runs: neither its row nor its message expires again."""
    batch = make_batch(database)
    past = "2001-01-01T00:00:00+00:00"
    options = json.dumps({"expires": past, "queue": "slow"})
    [job] = enroll_jobs(database, batch, [call(batch, expires_at=past)._replace(options=options)])
    assert [*cancel_expired(database)[0]] == [job]
    reopen(database, batch, Mode.FAILED)
    assert json.loads(row(database, job).options) == {"queue": "slow"}
    assert [*cancel_expired(database)[0]] == []


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"retries": 3, "countdown": 180, "eta": "2001-01-01T00:00:00", "queue": "q"}, {"queue": "q"}),
        ({"retries": 0, "countdown": 5}, {"countdown": 5}),
        ({"expires": 30}, {"expires": 30}),
    ],
)
def test_a_job_has_all_its_retries_again(
    database: Database, options: dict[str, Any], kept: dict[str, Any]
) -> None:
    """What Celery counted in the last round, and the pause before its last retry, are not the next round's."""
    batch = make_batch(database)
    text = json.dumps(options)
    [job, other] = enroll_jobs(database, batch, [call(batch)._replace(options=text), call(batch)])
    for one in (job, other):
        run_job(database, one, batch, FAILED)
    reopen(database, batch, Mode.FAILED)
    assert json.loads(row(database, job).options) == kept
    assert row(database, other).options == "{}"


# ---------------------------------------------------------------- the round


def test_callbacks_fire_again_as_new_rows(database: Database) -> None:
    """Each round has callbacks of its own; those of the last round stay as they ended."""
    batch, [job] = running_batch(database)
    old = {event: add_callback(database, batch, event) for event in ("complete", "failure", "settled")}
    assert run_job(database, job, batch, FAILED) == sorted([old["failure"], old["settled"]])
    for event in ("failure", "settled"):
        run_job(database, old[event], announces=batch)
    reopen(database, batch, Mode.FAILED)
    assert [state_of(database, one) for one in old.values()] == ["skipped", "complete", "complete"]
    armed = run_job(database, job, batch)
    assert [(row(database, one).event, row(database, one).round) for one in armed] == [
        ("complete", 2),
        ("settled", 2),
    ]
    assert not {*armed} & {*old.values()}
    assert batch_row(database, batch).round == 2


def test_a_callback_added_in_a_later_round_belongs_to_it(database: Database) -> None:
    """It fires in that round, and again in the next."""
    batch, job = finished(database)
    reopen(database, batch, Mode.FAILED)
    added, _ = listen_to(database, batch, "settled")
    assert run_job(database, job, batch, FAILED) == [added]
    reopen(database, batch, Mode.FAILED)
    [again] = run_job(database, job, batch)
    assert (again != added, row(database, again).event, row(database, again).round) == (True, "settled", 3)


def test_an_unfinished_batch_is_refused(database: Database) -> None:
    """Its round is not over, before its first block or while a job of a failed batch runs; nothing changes."""
    batch, [first, last] = running_batch(database, 2)
    run_job(database, first, batch, FAILED)
    before = batch_row(database, batch)
    for one in (batch, make_batch(database)):
        with pytest.raises(BatchUnfinished):
            reopen(database, one, Mode.ALL)
    assert batch_row(database, batch) == before
    assert (state_of(database, first), row(database, last).delivery) == (FAILED, 1)
    with pytest.raises(BatchNotFound):
        reopen(database, new_id(), Mode.ALL)


def test_retrying_twice_is_refused_once_it_runs(database: Database) -> None:
    """The first opens the round; the second finds it open."""
    batch, job = finished(database)
    reopen(database, batch, Mode.FAILED)
    with pytest.raises(BatchUnfinished):
        reopen(database, batch, Mode.FAILED)
    assert (batch_row(database, batch).round, row(database, job).delivery) == (2, 2)


def test_a_batch_with_nothing_to_run_again_is_finished_again(database: Database) -> None:
    """A complete batch retried for its failures has none: its new round ends with the next look."""
    batch, _ = finished(database, COMPLETE)
    complete = add_rounds_callback(database, batch)
    assert reopen(database, batch, Mode.FAILED) == [batch]
    [again] = ids(advance(database, batch))
    assert (again != complete, fate_of(database, batch)) == (True, (BatchState.COMPLETE, True))


def add_rounds_callback(database: Database, batch: str) -> str:
    """Write a callback that the batch's round has had, and that has ended."""
    callback = new_id()

    def write(connection: Connection, tables: Tables) -> None:
        values = {"id": callback, "announces_id": batch, "kind": "callback", "event": "complete", "options": "{}"}
        numbers = dict.fromkeys(("delivery", "attempt", "losses", "wrong"), 0)
        now = connection.scalar(sa.select(tables.batches.c.created_at).where(tables.batches.c.id == batch))
        values |= {"state": "complete", "task": "shop.tell", "round": 1, "enrolled_at": now, **numbers}
        connection.execute(tables.jobs.insert().values(values))

    database.transact(write, database.tables)
    return callback


def test_what_goes_wrong_is_counted_anew(database: Database) -> None:
    """A tolerance begins again: as much may go wrong as the first time, and one more fails the batch."""
    batch, jobs = running_batch(database, 4, tolerate="1")
    for job in jobs:
        run_job(database, job, batch, FAILED)
    assert tally(database, batch) == (0, 4)
    reopen(database, batch, Mode.FAILED)
    assert tally(database, batch) == (0, 0)
    run_job(database, jobs[0], batch, FAILED)
    assert fate_of(database, batch) == (BatchState.RUNNING, False)
    run_job(database, jobs[1], batch, FAILED)
    assert fate_of(database, batch) == (BatchState.FAILED, False)
    assert tally(database, batch) == (0, 2)


def test_a_share_keeps_its_total(database: Database) -> None:
    """How many jobs a batch has is not forgotten with what went wrong."""
    batch, jobs = running_batch(database, 4, tolerate="25%")
    for job in jobs:
        run_job(database, job, batch, FAILED)
    reopen(database, batch, Mode.FAILED)
    assert tally(database, batch) == (4, 0)
    run_job(database, jobs[0], batch, FAILED)
    assert fate_of(database, batch) == (BatchState.RUNNING, False)


def test_a_cancelled_batch_runs_what_it_was_spared(database: Database) -> None:
    """Retrying undoes the cancel."""
    batch, jobs = running_batch(database, 2)
    cancel(database, batch)
    reopen(database, batch, Mode.FAILED)
    for job in jobs:
        run_job(database, job, batch)
    assert fate_of(database, batch) == (BatchState.COMPLETE, True)


def test_what_nobody_publishes_is_overdue(database: Database) -> None:
    """Who retried died after the commit: the jobs are the sweep's, like those of any block."""
    batch, job = finished(database)
    reopen(database, batch, Mode.FAILED)
    age(database, "publishing_since", [job], 100)
    assert [(one.id, one.delivery) for one in take_overdue(database, 60, 10)] == [(job, 3)]
