"""Reopen: a finished batch runs again in a new round, and with it the ancestors that failed by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from locks import beside, on_servers, outcome, wait_for_waiter
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
from celery_flows.transitions.recover import cancel_expired, recover_batches
from celery_flows.transitions.reopen import Mode, _reopen, reopen

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


def family(database: Database, child: JobState = FAILED, own: JobState = COMPLETE, **parent: str) -> list[str]:
    """A finished parent with a job of its own and a finished child with one: parent, child, own job, child's job."""
    parent_id = make_batch(database, **parent)
    child_id = make_batch(database, parent=parent_id)
    [mine] = enroll_jobs(database, parent_id, 1)
    [theirs] = enroll_jobs(database, child_id, 1)
    run_job(database, mine, parent_id, own)
    run_job(database, theirs, child_id, child)
    assert fate_of(database, parent_id)[1]
    return [parent_id, child_id, mine, theirs]


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
def test_a_job_has_all_its_retries_again(database: Database, options: dict[str, Any], kept: dict[str, Any]) -> None:
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
    assert [(row(database, one).event, row(database, one).round) for one in armed] == [("complete", 2), ("settled", 2)]
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
    """Its round is not over: not before its first block, not while a job of a failed batch runs, and nothing changes."""
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
    """A tolerance begins again at nothing: as much may go wrong as the first time, and one more fails the batch."""
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


# ---------------------------------------------------------------- children


def test_children_that_went_wrong_run_again_with_their_parent(database: Database) -> None:
    """The child's failed jobs are ready, its row in the parent waits, and both complete."""
    parent, child, mine, theirs = family(database)
    assert reopen(database, parent, Mode.FAILED) == [parent, child]
    assert (state_of(database, child), row(database, child).wrong) == (JobState.RUNNING, 0)
    assert (state_of(database, mine), state_of(database, theirs)) == (COMPLETE, JobState.READY)
    run_job(database, theirs, child)
    assert fate_of(database, parent) == fate_of(database, child) == (BatchState.COMPLETE, True)


def test_a_child_that_ended_well_is_left_alone(database: Database) -> None:
    """Only the mode "all" opens it."""
    parent, child, *_ = family(database, child=COMPLETE, own=FAILED)
    assert reopen(database, parent, Mode.FAILED_AND_DOWNSTREAM) == [parent]
    assert (fate_of(database, child), state_of(database, child)) == ((BatchState.COMPLETE, True), COMPLETE)


def test_all_is_all(database: Database) -> None:
    """Every job of every batch inside runs again, under every batch's next round."""
    parent, child, *jobs = family(database, child=COMPLETE)
    assert reopen(database, parent, Mode.ALL) == [parent, child]
    assert {state_of(database, job) for job in jobs} == {JobState.READY}
    assert {batch_row(database, batch).round for batch in (parent, child)} == {2}


def test_a_childs_second_failure_counts_again(database: Database) -> None:
    """The row that stands for it had been wrong, was not in between, and is again."""
    parent, child, _, theirs = family(database, tolerate="1")
    assert tally(database, parent) == (0, 1)
    reopen(database, parent, Mode.FAILED)
    assert tally(database, parent) == (0, 0)
    run_job(database, theirs, child, FAILED)
    assert (tally(database, parent), fate_of(database, parent)) == ((0, 1), (BatchState.COMPLETE, True))


# ---------------------------------------------------------------- ancestors


def test_ancestors_that_failed_by_it_are_opened_with_it(database: Database) -> None:
    """All the way up, each in a new round with its callbacks, and complete when the child is."""
    top = make_batch(database)
    settled = add_callback(database, top, "settled")
    middle = make_batch(database, parent=top)
    bottom = make_batch(database, parent=middle)
    for batch in (top, middle):
        enroll_jobs(database, batch, 0)
    [job] = enroll_jobs(database, bottom, 1)
    assert run_job(database, job, bottom, FAILED) == [settled]
    assert reopen(database, bottom, Mode.FAILED) == [bottom]
    assert {fate_of(database, batch) for batch in (top, middle, bottom)} == {(BatchState.RUNNING, False)}
    assert {state_of(database, batch) for batch in (middle, bottom)} == {JobState.RUNNING}
    [again] = run_job(database, job, bottom)
    assert (again != settled, row(database, again).event) == (True, "settled")
    assert {fate_of(database, batch) for batch in (top, middle, bottom)} == {(BatchState.COMPLETE, True)}
    assert recover_batches(database) == ([], [])


def test_an_ancestor_that_tolerated_it_stays_closed(database: Database) -> None:
    """A complete parent has said so: the child runs on its own, and the parent's rows stay as they are."""
    parent, child, _, theirs = family(database, tolerate="1")
    before = [row(database, child), batch_row(database, parent)]
    reopen(database, child, Mode.FAILED)
    run_job(database, theirs, child)
    assert fate_of(database, child) == (BatchState.COMPLETE, True)
    assert [row(database, child), batch_row(database, parent)] == before
    assert recover_batches(database) == ([], [])


def test_nothing_above_a_closed_ancestor_is_touched(database: Database) -> None:
    """The parent failed by the child and is opened; the grandparent tolerated that, and keeps its rows."""
    top = make_batch(database, tolerate="1")
    middle = make_batch(database, parent=top)
    bottom = make_batch(database, parent=middle)
    for batch in (top, middle):
        enroll_jobs(database, batch, 0)
    [job] = enroll_jobs(database, bottom, 1)
    run_job(database, job, bottom, FAILED)
    before = [row(database, middle), batch_row(database, top)]
    reopen(database, bottom, Mode.FAILED)
    assert fate_of(database, middle) == (BatchState.RUNNING, False)
    run_job(database, job, bottom)
    assert fate_of(database, middle) == (BatchState.COMPLETE, True)
    assert [row(database, middle), batch_row(database, top)] == before


def test_an_ancestor_that_would_have_failed_anyway_stays_closed(database: Database) -> None:
    """Its own job failed too, so its failure is still true; retried itself later, it takes the child as that is now."""
    parent, child, mine, theirs = family(database, own=FAILED)
    before = [row(database, child), batch_row(database, parent)]
    reopen(database, child, Mode.FAILED)
    assert [row(database, child), batch_row(database, parent)] == before
    run_job(database, theirs, child)
    assert reopen(database, parent, Mode.FAILED) == [parent]
    assert state_of(database, child) is COMPLETE
    run_job(database, mine, parent)
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)


def test_a_parent_retried_waits_for_a_child_that_runs_already(database: Database) -> None:
    """The child was retried alone before: it is not opened a second time, and the parent waits for it."""
    parent, child, mine, theirs = family(database, own=FAILED)
    reopen(database, child, Mode.FAILED)
    assert reopen(database, parent, Mode.FAILED) == [parent]
    assert (state_of(database, child), batch_row(database, child).round) == (JobState.RUNNING, 2)
    run_job(database, mine, parent)
    assert fate_of(database, parent) == (BatchState.RUNNING, False)
    run_job(database, theirs, child)
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)


def test_two_children_retried_one_after_the_other_reopen_the_parent(database: Database) -> None:
    """With one of two failed children retried the parent has still failed; with the second it has not."""
    parent = make_batch(database)
    children = [make_batch(database, parent=parent) for _ in range(2)]
    enroll_jobs(database, parent, 0)
    jobs = [enroll_jobs(database, child, 1)[0] for child in children]
    for job, child in zip(jobs, children, strict=True):
        run_job(database, job, child, FAILED)
    reopen(database, children[0], Mode.FAILED)
    assert fate_of(database, parent) == (BatchState.FAILED, True)
    run_job(database, jobs[0], children[0])
    reopen(database, children[1], Mode.FAILED)
    assert fate_of(database, parent) == (BatchState.RUNNING, False)
    assert [state_of(database, child) for child in children] == [COMPLETE, JobState.RUNNING]
    run_job(database, jobs[1], children[1])
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)


def test_an_unfinished_parent_waits_for_its_child_again(database: Database) -> None:
    """Its round is not over: the child no longer counts against it, its own callbacks are not repeated."""
    parent = make_batch(database, tolerate="1")
    settled = add_callback(database, parent, "settled")
    child = make_batch(database, parent=parent)
    [mine] = enroll_jobs(database, parent, 1)
    [theirs] = enroll_jobs(database, child, 1)
    run_job(database, theirs, child, FAILED)
    assert tally(database, parent) == (0, 1)
    reopen(database, child, Mode.FAILED)
    assert (tally(database, parent), state_of(database, child)) == ((0, 0), JobState.RUNNING)
    assert run_job(database, mine, parent) == []
    assert run_job(database, theirs, child) == [settled]
    assert (fate_of(database, parent), batch_row(database, parent).round) == ((BatchState.COMPLETE, True), 1)


def test_a_decided_parent_that_runs_on_keeps_its_fate(database: Database) -> None:
    """A fate is decided once in a round: the parent waits for the child again, and has failed all the same."""
    parent = make_batch(database)
    failure, settled = (add_callback(database, parent, event) for event in ("failure", "settled"))
    child = make_batch(database, parent=parent)
    [mine] = enroll_jobs(database, parent, 1)
    [theirs] = enroll_jobs(database, child, 1)
    assert run_job(database, theirs, child, FAILED) == [failure]
    reopen(database, child, Mode.FAILED)
    run_job(database, mine, parent)
    assert run_job(database, theirs, child) == [settled]
    assert fate_of(database, parent) == (BatchState.FAILED, True)


def test_a_child_that_was_cancelled_was_counted_once(database: Database) -> None:
    """The parent's count goes back by what the child had added, and no further."""
    parent = make_batch(database, tolerate="3")
    child = make_batch(database, parent=parent)
    enroll_jobs(database, parent, 1)
    [theirs] = enroll_jobs(database, child, 1)
    cancel(database, child)
    assert tally(database, parent) == (0, 1)
    for _ in range(2):
        reopen(database, child, Mode.FAILED)
        assert tally(database, parent) == (0, 0)
        run_job(database, theirs, child, FAILED)
        assert tally(database, parent) == (0, 1)


# ---------------------------------------------------------------- at the same moment


@on_servers
def test_two_who_retry_at_once_open_one_round(database: Database) -> None:
    """The second waits for the first one's commit, and finds the round open."""
    parent, child, _, theirs = family(database)
    with database.engine.begin() as connection:
        assert _reopen(connection, database.tables, child, Mode.FAILED) == [child]
        retrying = beside(reopen, database, parent, Mode.FAILED)
        wait_for_waiter(database)
    with pytest.raises(BatchUnfinished):
        outcome(retrying)
    assert {batch_row(database, batch).round for batch in (parent, child)} == {2}
    assert row(database, theirs).delivery == 2


def test_what_nobody_publishes_is_overdue(database: Database) -> None:
    """Who retried died after the commit: the jobs are the sweep's, like those of any block."""
    from celery_flows.transitions.recover import take_overdue

    batch, job = finished(database)
    reopen(database, batch, Mode.FAILED)
    age(database, "publishing_since", [job], 100)
    assert [(one.id, one.delivery) for one in take_overdue(database, 60, 10)] == [(job, 3)]
