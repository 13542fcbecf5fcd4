"""Batches in batches: a child's failure counts at once, its row ends after its callbacks."""

from __future__ import annotations

from scenes import (
    add_callback,
    enroll_jobs,
    fate_of,
    ids,
    make_batch,
    row,
    run_job,
    running_batch,
    state_of,
    tally,
)

from celery_flows.states import BatchState, JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.transitions.claim import claim
from celery_flows.transitions.finalize import report
from celery_flows.transitions.settle import settle

FAILED = JobState.FAILED


def family(database: Database, **parent: str) -> tuple[str, str, list[str]]:
    """A parent that runs with one child and no job of its own, and the child's two jobs."""
    parent_id = make_batch(database, **parent)
    child = make_batch(database, parent=parent_id)
    enroll_jobs(database, parent_id, 0)
    return parent_id, child, enroll_jobs(database, child, 2)


def test_a_child_completes_its_parent(database: Database) -> None:
    """The last job of the last child completes all batches above it, and arms the callbacks of each."""
    parent, child, [first, last] = family(database)
    above = add_callback(database, parent, "complete")
    run_job(database, first, child)
    assert fate_of(database, parent) == (BatchState.RUNNING, False)
    assert run_job(database, last, child) == [above]
    assert state_of(database, child) is JobState.COMPLETE
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)


def test_a_childs_row_waits_for_the_childs_callbacks(database: Database) -> None:
    """What a child's callbacks do is part of the child, so the parent is not finished before they ended."""
    parent, child, jobs = family(database)
    above = add_callback(database, parent, "settled")
    own = [add_callback(database, child, event) for event in ("complete", "settled")]
    armed = [one for job in jobs for one in run_job(database, job, child)]
    assert armed == sorted(own)
    assert fate_of(database, child) == (BatchState.COMPLETE, True)
    for callback in own:
        assert state_of(database, child) is JobState.RUNNING
        armed = callback_ends(database, callback, child)
    assert armed == [above]
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)


def callback_ends(database: Database, callback: str, batch: str, state: JobState = JobState.COMPLETE) -> list[str]:
    """Run a callback to its end."""
    assert claim(database, callback, 0, "t") == 1
    return ids(settle(database, Ending(callback, state, delivery=0, token="t"), announces_id=batch))


def test_a_callback_that_fails_is_not_its_batchs_failure(database: Database) -> None:
    """A callback never belongs to what it announces: the child stays complete, and its row ends."""
    parent, child, jobs = family(database)
    own = add_callback(database, child, "complete")
    for job in jobs:
        run_job(database, job, child)
    callback_ends(database, own, child, FAILED)
    assert fate_of(database, child) == fate_of(database, parent) == (BatchState.COMPLETE, True)


def test_a_childs_failure_counts_in_the_parent_at_once(database: Database) -> None:
    """Both fail while the child still runs; the child's row ends only when the child is finished."""
    parent, child, [first, last] = family(database)
    armed = [add_callback(database, batch, "failure") for batch in (parent, child)]
    assert sorted(run_job(database, first, child, FAILED)) == sorted(armed)
    assert fate_of(database, parent) == fate_of(database, child) == (BatchState.FAILED, False)
    assert state_of(database, child) is JobState.RUNNING
    run_job(database, last, child)
    assert fate_of(database, parent) == (BatchState.FAILED, False)
    callback_ends(database, armed[1], child)
    assert state_of(database, child) is FAILED
    assert fate_of(database, parent) == (BatchState.FAILED, True)


def test_a_failed_child_counts_once_against_a_tolerance(database: Database) -> None:
    """A parent that tolerates one failed child completes, however many of the child's jobs failed."""
    parent, child, [first, last] = family(database, tolerate="1")
    run_job(database, first, child, FAILED)
    assert (tally(database, parent), fate_of(database, parent)) == ((0, 1), (BatchState.RUNNING, False))
    run_job(database, last, child, FAILED)
    assert tally(database, parent) == (0, 1)
    assert fate_of(database, child) == (BatchState.FAILED, True)
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)


def test_a_failure_climbs_all_the_way(database: Database) -> None:
    """A grandchild's failure fails every batch above that tolerates nothing, in one go."""
    top = make_batch(database)
    middle = make_batch(database, parent=top)
    bottom = make_batch(database, parent=middle)
    for batch in (top, middle):
        enroll_jobs(database, batch, 0)
    armed = [add_callback(database, batch, "failure") for batch in (top, middle, bottom)]
    jobs = enroll_jobs(database, bottom, 2)
    assert sorted(run_job(database, jobs[0], bottom, FAILED)) == sorted(armed)
    assert {fate_of(database, batch) for batch in (top, middle, bottom)} == {(BatchState.FAILED, False)}


def test_a_parent_that_has_not_begun_takes_its_block_after_a_child_failed(database: Database) -> None:
    """A child's failure is the parent's fate at once, but what has not begun is not finished."""
    parent = make_batch(database)
    failure, settled = (add_callback(database, parent, event) for event in ("failure", "settled"))
    child = make_batch(database, parent=parent)
    jobs = enroll_jobs(database, child, 2)
    assert run_job(database, jobs[0], child, FAILED) == [failure]
    run_job(database, jobs[1], child)
    assert state_of(database, child) is FAILED
    assert fate_of(database, parent) == (BatchState.FAILED, False)
    [own] = enroll_jobs(database, parent, 1)
    assert run_job(database, own, parent) == [settled]
    assert fate_of(database, parent) == (BatchState.FAILED, True)


def test_reporting_twice_is_reporting_once(database: Database) -> None:
    """Report bears being called twice, for a batch without a parent and for one that is not there."""
    parent, child, jobs = family(database)
    for job in jobs:
        run_job(database, job, child)
    before = row(database, child)
    for batch in (child, child, parent, "nonsense"):
        assert report(database, batch) == []
    assert row(database, child) == before


def test_a_finished_child_counts_no_failure_twice(database: Database) -> None:
    """The row that stands for a failed child is wrong once, and ends as failed."""
    parent, child, jobs = family(database, tolerate="5")
    for job in jobs:
        run_job(database, job, child, FAILED)
    found = row(database, child)
    assert (found.state, found.wrong, found.ended_at is not None) == ("failed", 1, True)
    assert fate_of(database, parent) == (BatchState.COMPLETE, True)
    assert running_batch(database)[0] != parent
