"""Reopen among batches in batches: children that run again, and ancestors that failed by one that does."""

from __future__ import annotations

import pytest
from locks import beside, on_servers, opened, outcome, wait_for_waiter
from scenes import (
    add_callback,
    batch_row,
    enroll_jobs,
    fate_of,
    make_batch,
    row,
    run_job,
    state_of,
    tally,
)

from celery_flows.errors import BatchUnfinished
from celery_flows.states import BatchState, JobState
from celery_flows.store.database import Database
from celery_flows.transitions.cancel import cancel
from celery_flows.transitions.recover import recover_batches
from celery_flows.transitions.reopen import Mode, _reopen, reopen

COMPLETE, FAILED = JobState.COMPLETE, JobState.FAILED


def family(database: Database, child: JobState = FAILED, own: JobState = COMPLETE, **parent: str) -> list[str]:
    """A finished parent and child with a job each: parent, child, the parent's job, the child's job."""
    parent_id = make_batch(database, **parent)
    child_id = make_batch(database, parent=parent_id)
    [mine] = enroll_jobs(database, parent_id, 1)
    [theirs] = enroll_jobs(database, child_id, 1)
    run_job(database, mine, parent_id, own)
    run_job(database, theirs, child_id, child)
    assert fate_of(database, parent_id)[1]
    return [parent_id, child_id, mine, theirs]


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
    """Its own job failed too, so its failure is still true; retried later, it takes the child as it is then."""
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
    with opened(database) as connection:
        assert _reopen(connection, database.tables, child, Mode.FAILED) == [child]
        retrying = beside(reopen, database, parent, Mode.FAILED)
        wait_for_waiter(database)
    with pytest.raises(BatchUnfinished):
        outcome(retrying)
    assert {batch_row(database, batch).round for batch in (parent, child)} == {2}
    assert row(database, theirs).delivery == 2
