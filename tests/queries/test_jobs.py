"""A batch's lists of jobs: lazy, in order of id, sliced as any sequence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import call, enroll_jobs, make_batch, run_job, running_batch

from celery_flows.ids import new_id
from celery_flows.queries import jobs as job_queries
from celery_flows.queries.jobs import JobList
from celery_flows.states import JobState, Kind
from celery_flows.store.database import Database
from celery_flows.transitions.stream import abandon_stream, open_stream

FAILED, COMPLETE, CANCELLED = [JobState.FAILED], [JobState.COMPLETE], [JobState.CANCELLED]


def ids(jobs: Sequence[job_queries.JobRecord]) -> list[str]:
    """The ids of what was read."""
    return [job.id for job in jobs]


def test_each_list_holds_its_own(database: Database) -> None:
    """Pending are those that have not ended; the others are listed by outcome; other batches' are in none."""
    batch, [complete, failed, cancelled, pending] = running_batch(database, 4)
    running_batch(database, 2)
    run_job(database, complete, batch)
    run_job(database, failed, batch, JobState.FAILED)
    run_job(database, cancelled, batch, JobState.CANCELLED)
    found = [ids(JobList(database, batch, outcomes)) for outcomes in (COMPLETE, FAILED, CANCELLED, None)]
    assert found == [[complete], [failed], [cancelled], [pending]]


def test_a_record_says_what_the_row_says(database: Database) -> None:
    """Arguments are decoded, times are aware, the state is a word of ours."""
    batch = make_batch(database)
    [job] = enroll_jobs(database, batch, [call(batch)._replace(args="[1, [2]]", kwargs='{"a": null}')])
    run_job(database, job, batch)
    [found] = JobList(database, batch, COMPLETE)
    assert (found.id, found.kind, found.task, found.state) == (job, "task", "shop.score", JobState.COMPLETE)
    assert (found.args, found.kwargs, found.attempts) == ([1, [2]], {"a": None}, 1)
    assert (found.error_class, found.error_message) == (None, None)
    assert found.started_at is not None
    assert found.ended_at is not None
    assert found.enrolled_at <= found.started_at <= found.ended_at
    assert found.ended_at.utcoffset() is not None


def test_children_are_listed_and_open_blocks_are_not(database: Database) -> None:
    """A child is one job of its parent; an open block is none, an abandoned one is what failed."""
    batch, [job] = running_batch(database)
    child = make_batch(database, parent=batch)
    blocks = [new_id(), new_id()]
    for block in blocks:
        database.transact(open_stream, database.tables, block, batch, starts=False)
    abandon_stream(database, blocks[0], batch, "died")
    assert ids(JobList(database, batch, None)) == sorted([job, child])
    [found] = JobList(database, batch, FAILED)
    assert (found.id, found.kind) == (blocks[0], Kind.BLOCK)


def test_iterating_pages_through_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages, each job comes once and in order; the last page may be full, or empty."""
    monkeypatch.setattr(job_queries, "_PAGE", 4)
    for number in (0, 3, 4, 9):
        batch = make_batch(database)
        jobs = enroll_jobs(database, batch, number)
        assert ids(JobList(database, batch, None)) == jobs


def test_iterating_bears_jobs_that_end_meanwhile(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages go on behind the last id read, so what leaves the list makes nothing be skipped."""
    monkeypatch.setattr(job_queries, "_PAGE", 2)
    batch, jobs = running_batch(database, 5)
    seen = []
    for job in JobList(database, batch, None):
        seen.append(job.id)
        run_job(database, job.id, batch)
    assert seen == jobs


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.slices(7))
def test_slices_are_those_of_a_list(database: Database, part: slice) -> None:
    """Any start, stop and step, from either end and backwards, gives what a list gives."""
    batch = next(iter(BATCHES.get(database, ())), None) or BATCHES.setdefault(database, seven(database))[0]
    jobs = BATCHES[database][1:]
    assert ids(JobList(database, batch, None)[part]) == jobs[part]


#: The batch and the jobs of the test above, by database.
BATCHES: dict[Database, list[str]] = {}


def seven(database: Database) -> list[str]:
    """A batch and its seven jobs."""
    batch, jobs = running_batch(database, 7)
    return [batch, *jobs]


def test_an_index_is_that_of_a_list(database: Database) -> None:
    """From either end; one that is not there is an IndexError, a step of zero a ValueError."""
    batch, jobs = running_batch(database, 3)
    pending = JobList(database, batch, None)
    assert [pending[at].id for at in range(-3, 3)] == [*jobs, *jobs]
    for at in (3, -4):
        with pytest.raises(IndexError, match=str(at)):
            pending[at]
    with pytest.raises(ValueError, match="zero"):
        pending[::0]
    assert (len(pending), bool(pending), bool(JobList(database, batch, FAILED))) == (3, True, False)
    assert JobList(database, "nonsense", None)[:5] == []


def test_repr_says_which_list_it_is(database: Database) -> None:
    """Without asking the database."""
    database.close()
    unread = "not read: [:10], list() and len() do>"
    assert repr(JobList(database, "b", None)) == f"<pending jobs of batch b: {unread}"
    both = JobList(database, "b", [JobState.FAILED, JobState.CANCELLED])
    assert repr(both) == f"<failed or cancelled jobs of batch b: {unread}"
