"""Prune: what was finished long ago is forgotten, in small transactions; what is not over never."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from locks import beside, on_servers, opened, outcome, wait_for_waiter
from scenes import add_callback, count, enroll_jobs, fate_of, make_batch, run_job, running_batch, state_of

from celery_flows.errors import InvalidSetting
from celery_flows.states import BatchState, JobState
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow
from celery_flows.transitions import prune as pruning
from celery_flows.transitions.prune import fates_of, prune
from celery_flows.transitions.reopen import Mode, _reopen, reopen

DAY = 86400.0


def finished(database: Database, jobs: int = 1, **batch: str) -> tuple[str, list[str]]:
    """A batch that was finished two days ago, with its jobs."""
    batch_id, ids = running_batch(database, jobs, **batch)
    for job in ids:
        run_job(database, job, batch_id)
    finished_ago(database, batch_id, 2 * DAY)
    return batch_id, ids


def finished_ago(database: Database, batch_id: str, seconds: float) -> None:
    """Let a finished batch have been so for a while."""

    def write(connection: Connection, tables: Tables) -> None:
        moment = connection.scalar(sa.select(utcnow())) - timedelta(seconds=seconds)
        batch = (tables.batches.c.id == batch_id) & tables.batches.c.settled_at.is_not(None)
        connection.execute(tables.batches.update().where(batch).values(settled_at=moment))

    database.transact(write, database.tables)


def left(database: Database) -> set[str]:
    """The batches that are there."""
    with database.reading() as connection:
        return set(connection.scalars(sa.select(database.tables.batches.c.id)))


def test_old_batches_go_with_all_that_is_theirs(database: Database) -> None:
    """Jobs, callbacks, children and tallies of a batch go with it; younger batches stay."""
    parent = make_batch(database, tolerate="50%")
    child = make_batch(database, parent=parent)
    [mine] = enroll_jobs(database, parent, 1)
    [theirs] = enroll_jobs(database, child, 1)
    skipped = add_callback(database, child, "failure")
    callback = add_callback(database, parent, "settled")
    run_job(database, mine, parent)
    run_job(database, theirs, child)
    run_job(database, callback, announces=parent)
    assert state_of(database, skipped) is JobState.SKIPPED
    for batch in (parent, child):
        finished_ago(database, batch, 2 * DAY)
    young, [job] = finished(database)
    finished_ago(database, young, DAY / 2)
    assert prune(database, DAY) == 2
    assert (left(database), count(database), count(database, "tallies")) == ({young}, 1, 0)
    assert (state_of(database, job), prune(database, DAY)) == (JobState.COMPLETE, 0)


def test_what_is_not_over_stays(database: Database) -> None:
    """Pending, running, and failed but unfinished batches, however old, and with them all their rows."""
    make_batch(database)
    running_batch(database)
    failed, [first, _] = running_batch(database, 2)
    run_job(database, first, failed, JobState.FAILED)
    assert fate_of(database, failed) == (BatchState.FAILED, False)
    before = (left(database), count(database))
    assert prune(database, 0) == 0
    assert (left(database), count(database)) == before


def test_a_batch_whose_callbacks_are_to_run_stays(database: Database) -> None:
    """Its callback would find nothing to announce; once that has ended, the batch goes."""
    batch, [job] = running_batch(database)
    callback = add_callback(database, batch, "complete")
    run_job(database, job, batch)
    finished_ago(database, batch, 2 * DAY)
    assert prune(database, DAY) == 0
    run_job(database, callback, announces=batch)
    assert (prune(database, DAY), count(database)) == (1, 0)


def test_a_child_stays_while_its_parent_does(database: Database) -> None:
    """A tree goes from its top: a finished child of a running parent is still part of it."""
    parent = make_batch(database)
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 1)
    [job] = enroll_jobs(database, child, 1)
    run_job(database, job, child)
    finished_ago(database, child, 2 * DAY)
    assert prune(database, DAY) == 0
    assert left(database) == {parent, child}


def test_a_child_that_runs_again_outlives_its_parent(database: Database) -> None:
    """It was retried while its parent stayed closed: the parent goes, the child ends, and then goes too."""
    parent = make_batch(database, tolerate="1")
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    [job] = enroll_jobs(database, child, 1)
    run_job(database, job, child, JobState.FAILED)
    reopen(database, child, Mode.FAILED)
    finished_ago(database, parent, 2 * DAY)
    assert (prune(database, DAY), left(database)) == (1, {child})
    run_job(database, job, child)
    assert fate_of(database, child) == (BatchState.COMPLETE, True)
    assert prune(database, 0) == 1


def test_a_large_batch_goes_in_small_transactions(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more rows than a chunk in one transaction, and the batch's own row last."""
    monkeypatch.setattr(pruning, "_CHUNK", 3)
    finished(database, 7)
    deleted: list[tuple[str, int]] = []

    @sa.event.listens_for(database.engine, "after_cursor_execute")
    def note(connection: Connection, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("DELETE"):
            deleted.append((statement.split()[2].strip('"`').removeprefix("flows_"), cursor.rowcount))  # type: ignore[attr-defined]

    assert prune(database, DAY) == 1
    assert [one for one in deleted if one[1]] == [("jobs", 3), ("jobs", 3), ("jobs", 1), ("batches", 1)]
    assert {noun for noun, _ in deleted} == {"edges", "jobs", "tallies", "memory", "batches"}
    assert (left(database), count(database)) == (set(), 0)


@on_servers
def test_a_batch_that_is_retried_at_this_moment_is_left_alone(database: Database) -> None:
    """Prune found it finished, and waits for who opens it again: then nothing of it goes."""
    batch, [job] = finished(database)
    with opened(database) as connection:
        _reopen(connection, database.tables, batch, Mode.ALL)
        done = beside(prune, database, DAY)
        wait_for_waiter(database)
    assert outcome(done) == 0
    assert (left(database), state_of(database, job)) == ({batch}, JobState.READY)


def test_only_batches_that_ended_so_go(database: Database) -> None:
    """By state; what is inside of one goes with it, whatever became of that."""
    good, _ = finished(database)
    bad, [job] = running_batch(database)
    run_job(database, job, bad, JobState.FAILED)
    finished_ago(database, bad, 2 * DAY)
    assert prune(database, DAY, [BatchState.COMPLETE]) == 1
    assert left(database) == {bad}
    assert prune(database, DAY, fates_of(["failed", "cancelled"])) == 1
    assert (left(database), good not in left(database)) == (set(), True)


def test_what_is_inside_goes_whatever_became_of_it(database: Database) -> None:
    """A child that failed does not stay behind a parent that bore it, where only complete batches are to go."""
    parent = make_batch(database, tolerate="1")
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 0)
    [job] = enroll_jobs(database, child, 1)
    run_job(database, job, child, JobState.FAILED)
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)
    for batch in (parent, child):
        finished_ago(database, batch, 2 * DAY)
    assert prune(database, DAY, [BatchState.COMPLETE]) == 2
    assert left(database) == set()


@pytest.mark.parametrize("states", ["running", ["complete", "done"]])
def test_a_state_that_is_no_end_is_refused(states: Any) -> None:
    """The error says which there are."""
    with pytest.raises(InvalidSetting, match='"complete", "failed" or "cancelled"'):
        fates_of(states)


def test_no_more_than_so_many_go(database: Database) -> None:
    """A pass of the sweep takes some of them, and the next one others."""
    every = {finished(database)[0] for _ in range(3)}
    assert prune(database, DAY, at_most=2) == 2
    assert len(left(database) & every) == 1
    assert prune(database, DAY, at_most=2) == 1
