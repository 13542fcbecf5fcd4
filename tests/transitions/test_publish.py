"""The publisher's marks: they never move a job backwards, and what is overdue changes hands once."""

from __future__ import annotations

from scenes import age, enroll_jobs, ids, make_batch, row, running_batch, state_of

from celery_flows.ids import new_id
from celery_flows.states import JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import Published, ready_among
from celery_flows.transitions.claim import claim
from celery_flows.transitions.publish import keep_for_publishing, mark_published
from celery_flows.transitions.recover import take_overdue
from celery_flows.transitions.settle import settle


def published(job_id: str, delivery: int = 1) -> Published:
    """A job whose message the broker has."""
    return Published(job_id, delivery)


def test_a_published_job_is_queued(database: Database) -> None:
    """Ready becomes queued, and nobody means to publish it any more; marking twice is marking once."""
    _, jobs = running_batch(database, 3)
    for _ in range(2):
        mark_published(database, map(published, jobs))
    assert {state_of(database, job) for job in jobs} == {JobState.QUEUED}
    assert {row(database, job).publishing_since for job in jobs} == {None}


def test_a_mark_never_moves_a_job_backwards(database: Database) -> None:
    """A worker may have claimed, or even ended, the job before its publisher marks it."""
    batch, [claimed, ended] = running_batch(database, 2)
    claim(database, claimed, 1, "t")
    claim(database, ended, 1, "t")
    settle(database, Ending(ended, JobState.COMPLETE, delivery=1, token="t"), batch_id=batch)
    mark_published(database, map(published, [claimed, ended]))
    assert state_of(database, claimed) is JobState.RUNNING
    assert state_of(database, ended) is JobState.COMPLETE


def test_a_late_mark_leaves_a_later_publish_alone(database: Database) -> None:
    """Who was overtaken by the sweep marks an old number, so the new publisher still owns the job."""
    _, [job] = running_batch(database)
    take_overdue(database, 0, 10)
    mark_published(database, [published(job, delivery=1)])
    assert state_of(database, job) is JobState.READY
    assert row(database, job).publishing_since is not None


def test_deliveries_of_several_numbers_are_marked_together(database: Database) -> None:
    """A sweep publishes first and later deliveries in one go."""
    _, [first, second] = running_batch(database, 2)
    age(database, "publishing_since", [second], 100)
    [again] = take_overdue(database, 50, 10)
    mark_published(database, [published(first), Published.of(again)])
    assert [state_of(database, job) for job in (first, second)] == [JobState.QUEUED] * 2


def test_marking_nothing_says_nothing(database: Database) -> None:
    """An empty list is no statement at all, so it works without a database."""
    unreachable = Database(f"sqlite:////{new_id()}/nowhere.sqlite3")
    mark_published(unreachable, [])
    keep_for_publishing(unreachable, [])


# ---------------------------------------------------------------- taking over


def test_what_is_overdue_is_taken_over_under_a_new_number(database: Database) -> None:
    """The sweep's message has the next delivery number, so that the lost publisher's can no longer claim."""
    _, [late, fresh] = running_batch(database, 2)
    age(database, "publishing_since", [late], 61)
    [taken] = take_overdue(database, 60, 10)
    assert (taken.id, taken.delivery, row(database, late).delivery) == (late, 2, 2)
    assert row(database, fresh).delivery == 1
    assert claim(database, late, 1, "t") is None


def test_what_was_taken_over_belongs_to_who_took_it(database: Database) -> None:
    """Its clock starts again, so a second sweep leaves it alone."""
    _, [job] = running_batch(database)
    age(database, "publishing_since", [job], 61)
    assert ids(take_overdue(database, 60, 10)) == [job]
    assert take_overdue(database, 60, 10) == []


def test_no_more_than_asked_for_is_taken(database: Database) -> None:
    """Oldest first, a chunk at a time."""
    _, jobs = running_batch(database, 5)
    for number, job in enumerate(jobs):
        age(database, "publishing_since", [job], 100 - number)
    assert ids(take_overdue(database, 60, 2)) == jobs[:2]
    assert ids(take_overdue(database, 60, 10)) == jobs[2:]


def test_who_goes_on_owning_jobs_keeps_them(database: Database) -> None:
    """A publisher with a long list renews its claim on what is still to come, not on what was claimed since."""
    _, [kept, claimed] = running_batch(database, 2)
    age(database, "publishing_since", [kept, claimed], 61)
    claim(database, claimed, 1, "t")
    keep_for_publishing(database, [kept, claimed])
    assert take_overdue(database, 60, 10) == []
    assert row(database, claimed).publishing_since is None


def test_only_what_is_committed_and_ready_is_published_after_a_commit(database: Database) -> None:
    """Of a block that joined a transaction those jobs are published that are there and have not gone further."""
    batch = make_batch(database)
    [there, claimed] = enroll_jobs(database, batch, 2)
    claim(database, claimed, 1, "t")
    with database.reading() as connection:
        found = ready_among(connection, database.tables, [there, claimed, "rolled back"])
    assert ids(found) == [there]
