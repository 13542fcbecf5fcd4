"""What commands ask the database: ids by their beginnings, pages, and what is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from apps import counting
from scenes import add_callback, call, enroll_jobs, make_batch, run_job, running_batch

from celery_flows.codec import encode
from celery_flows.errors import BatchAmbiguous, BatchNotFound, JobGiven
from celery_flows.ids import beginning_at, new_id
from celery_flows.queries.batches import Left, Wanted, children, find_id, left, wanted_batches
from celery_flows.queries.jobs import callbacks, jobs_page
from celery_flows.queries.workers import workers
from celery_flows.states import BatchState, JobState, Kind
from celery_flows.store import leases, lists
from celery_flows.store.database import Database
from celery_flows.transitions.claim import claim
from celery_flows.transitions.prune import FATES, count_prunable


def test_a_beginning_that_one_id_has(database: Database) -> None:
    """It is found by any, down to the first character, in whatever case, and by the whole."""
    batch_id = make_batch(database)
    for given in (batch_id, batch_id[:18], batch_id[:1], batch_id.upper()):
        assert find_id(database, given) == batch_id


def test_a_beginning_that_several_have(database: Database) -> None:
    """The newest of them are named, and that there are more."""
    made = [make_batch(database) for _ in range(7)][::-1]
    with pytest.raises(BatchAmbiguous) as caught:
        find_id(database, made[0][:8])
    assert caught.value.candidates == f"{', '.join(made[:5])}, and more"
    longer = make_batch(database, id=f"{made[0]}a")
    with pytest.raises(BatchAmbiguous, match=rf": {longer}, {made[0]}\. Write more"):
        find_id(database, made[0])


@pytest.mark.parametrize("given", ["", " ", "z", "\x00", "\udcff", "_", "%", "é"])
def test_a_beginning_that_none_has(database: Database, given: str) -> None:
    """Nothing said is not all of them; wildcards are none."""
    make_batch(database)
    with pytest.raises(BatchNotFound):
        find_id(database, given)


def test_an_id_of_a_job(database: Database) -> None:
    """As a log has it: the batch is named that it belongs to, or announces."""
    batch_id, [job] = running_batch(database)
    for given in (job, add_callback(database, batch_id, "settled")):
        with pytest.raises(
            JobGiven, match=rf"{given}' is the id of a job, not of a batch. Its batch is {batch_id}"
        ):
            find_id(database, f" {given}")


#: How each database says that it reads a range of the index of ids.
_RANGE = {
    "sqlite": "(id>? AND id<?)",
    "postgresql": "Index Cond: ((id >= ",
    "mysql": "'range', 'PRIMARY'",
}


def test_a_beginning_is_looked_up_in_the_index(database: Database) -> None:
    """As a range of it, so that it takes no longer with more batches."""
    explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
    plans: list[Any] = []

    @sa.event.listens_for(database.engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            cursor.execute(f"{explain} {statement}", parameters)
            plans.extend(cursor.fetchall())

    for _ in range(20):
        make_batch(database)
    with database.engine.begin() as connection:
        if database.dialect == "postgresql":
            # A table of one page is read whole, whatever indexes it has.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        lists.ids_beginning(connection, database.tables, "01a2", 6)
    assert _RANGE[database.dialect] in " ".join(map(str, plans))


def wanted(database: Database, limit: int = 100, **which: Any) -> list[str]:
    """The ids of those that are meant."""
    return [one.id for one in wanted_batches(database, Wanted(**which), limit)]


def test_batches_by_description(database: Database) -> None:
    """A part of it, in whatever case; wildcards are characters."""
    rescore = make_batch(database, description="Rescore 100 %")
    make_batch(database, description="Import_2")
    make_batch(database)
    assert wanted(database, description="rescore") == [rescore]
    assert wanted(database, description="0 %") == [rescore]
    assert (wanted(database, description="e%r"), wanted(database, description="e_c")) == ([], [])


def test_batches_by_state_and_family(database: Database) -> None:
    """Those that have not ended are found among the few that have not."""
    parent = make_batch(database, tolerate="1")
    child, [job] = running_batch(database, parent=parent)
    other, _ = running_batch(database)
    run_job(database, job, child)
    assert wanted(database, state=BatchState.RUNNING) == [other]
    assert wanted(database, state=BatchState.PENDING) == [parent]
    assert wanted(database, state=BatchState.COMPLETE) == [child]
    assert wanted(database, is_top=True) == [other, parent]
    assert wanted(database, parent_id=parent) == [child]
    assert [one.id for one in children(database, parent, 5)] == [child]


def test_batches_by_when_they_were_made(database: Database) -> None:
    """By the database's clock, also where who made their ids had a clock some hours off."""
    now = datetime.now(UTC)
    off, right = (now + timedelta(hours=hours) for hours in (-20, 0))
    slow = make_batch(database, id=f"{beginning_at(off)}-7000-8000-000000000001")
    late = make_batch(database, id=f"{beginning_at(right)}-7000-8000-000000000001")
    assert wanted(database, since=now - timedelta(minutes=5)) == [late, slow]
    assert wanted(database, before=now - timedelta(minutes=5)) == []
    assert wanted(database, since=datetime.min.replace(tzinfo=UTC)) == [late, slow]
    assert wanted(database, before=datetime.max.replace(tzinfo=UTC)) == [late, slow]


def test_batches_by_page(database: Database) -> None:
    """Behind an id, whatever is made meanwhile."""
    made = [make_batch(database) for _ in range(4)][::-1]
    assert wanted(database, 2) == made[:2]
    make_batch(database)
    assert wanted(database, 2, after=made[1]) == made[2:]


def test_an_id_begins_with_its_moment() -> None:
    """So that ids can be asked for by when they were made."""
    before, made, after = datetime.now(UTC), new_id(), datetime.now(UTC) + timedelta(milliseconds=2)
    assert beginning_at(before) <= made < beginning_at(after)
    assert beginning_at(before, -60) < beginning_at(before) < beginning_at(before, 60)
    assert beginning_at(datetime.min.replace(tzinfo=UTC)) == "00000000-0000"


# ---------------------------------------------------------------- jobs and callbacks


def test_jobs_of_any_state_come_in_one_order(database: Database) -> None:
    """However they are kept apart in the index; planning that is done and joins are none."""
    batch_id = make_batch(database, tolerate="9")
    jobs = enroll_jobs(database, batch_id, [call(batch_id) for _ in range(6)])
    enroll_jobs(database, batch_id, [call(batch_id, kind=Kind.JOIN)], starts=False)
    run_job(database, jobs[1], batch_id)
    run_job(database, jobs[4], batch_id, JobState.FAILED)
    claim(database, jobs[2], 1, "token")

    def ids(**which: Any) -> list[str]:
        return [job.id for job in jobs_page(database, batch_id, **which)]

    assert ids() == jobs
    assert (ids(limit=2), ids(limit=2, after=jobs[1]), ids(after=jobs[5])) == (jobs[:2], jobs[2:4], [])
    assert ids(states=[JobState.RUNNING, JobState.FAILED]) == [jobs[2], jobs[4]]
    assert ids(states=[JobState.COMPLETE], after=jobs[1]) == []


def test_a_page_of_jobs_costs_a_look_per_outcome(database: Database) -> None:
    """However many there are."""
    batch_id, _ = running_batch(database, 20)
    counted = counting(database)
    jobs_page(database, batch_id, limit=3)
    assert counted() == 5
    jobs_page(database, batch_id, states=[JobState.FAILED], limit=3)
    assert counted() == 6


def test_callbacks_and_what_is_left(database: Database) -> None:
    """Left are children that are unfinished, and callbacks whose event has come."""
    batch_id, [job] = running_batch(database)
    child, [childs] = running_batch(database, parent=batch_id)
    complete, failure = (add_callback(database, batch_id, event) for event in ("complete", "failure"))
    assert left(database, batch_id) == Left(children=1, callbacks=0)
    run_job(database, childs, child)
    run_job(database, job, batch_id, JobState.FAILED)
    assert left(database, batch_id) == Left(children=0, callbacks=1)
    run_job(database, failure, state=JobState.FAILED, announces=batch_id)
    assert left(database, batch_id) == Left(children=0, callbacks=0)
    found = [(one.id, one.event, one.state) for one in callbacks(database, batch_id, 1)]
    assert found == [(complete, "complete", "skipped"), (failure, "failure", "failed")]
    assert callbacks(database, batch_id, 2) == []


def test_workers_by_the_databases_clock(database: Database) -> None:
    """Each with its jobs; whose turn the sweep was is no worker."""
    database.transact(leases.renew, database.tables, "w", "host", 7)
    [found] = workers(database)
    assert (found.id, found.hostname, found.pid, found.jobs) == ("w", "host", 7, 0)
    assert 0 <= found.silence <= found.up < 60


def test_what_would_be_pruned(database: Database) -> None:
    """As many as are at the top, and neither unfinished nor of another state or age."""
    done, [job] = running_batch(database, tags=encode([]))
    child, [childs] = running_batch(database, parent=done)
    running_batch(database)
    run_job(database, childs, child)
    run_job(database, job, done)
    assert count_prunable(database, 0) == 1
    assert count_prunable(database, 3600) == 0
    assert count_prunable(database, 0, [BatchState.FAILED]) == 0
    assert count_prunable(database, 0, FATES) == 1
