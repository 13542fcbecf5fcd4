"""The command jobs: the jobs of a batch, by state and page by page."""

from __future__ import annotations

import pytest
from celery import Celery
from commands import here, records
from scenes import make_batch, run_job, running_batch

from celery_flows import Batch
from celery_flows.states import JobState
from celery_flows.store.database import Database
from celery_flows.transitions.claim import claim


def ids(url: str, *words: str) -> list[str]:
    """The ids that it says."""
    return [one["id"] for one in records(here("jobs", *words, "--json", url=url))]


@pytest.fixture
def batch(database: Database) -> tuple[str, list[str]]:
    """A batch of seven jobs, each of which stands elsewhere."""
    batch_id, jobs = running_batch(database, 7, tolerate="7")
    for job, state in zip(jobs[2:], ("complete", "failed", "cancelled", "complete"), strict=False):
        run_job(database, job, batch_id, JobState(state))
    claim(database, jobs[1], 1, "token")
    return batch_id, jobs


def test_all_in_order(batch: tuple[str, list[str]], file_url: str) -> None:
    """By their ids, whatever became of them."""
    batch_id, jobs = batch
    assert ids(file_url, batch_id) == jobs
    out = here("jobs", batch_id, url=file_url).out.splitlines()
    assert [line.split()[1] for line in out] == [
        "STATE",
        "ready",
        "running",
        "complete",
        "failed",
        "cancelled",
        "complete",
        "ready",
    ]


def test_by_state(batch: tuple[str, list[str]], file_url: str) -> None:
    """One or several; pending are those that have not ended."""
    batch_id, jobs = batch
    assert ids(file_url, batch_id, "--state", "running") == [jobs[1]]
    assert ids(file_url, batch_id, "--state", "failed", "--state", "complete") == [jobs[2], jobs[3], jobs[5]]
    assert ids(file_url, batch_id, "--state", "pending") == [jobs[0], jobs[1], jobs[6]]
    assert ids(file_url, batch_id, "--state", "pending", "--state", "cancelled") == [*jobs[:2], jobs[4], jobs[6]]
    assert ids(file_url, batch_id, "--state", "skipped") == []


def test_page_by_page(batch: tuple[str, list[str]], file_url: str) -> None:
    """Each goes on behind the last of the one before."""
    batch_id, jobs = batch
    done = here("jobs", batch_id, "--limit", "3", url=file_url)
    assert done.err == f"There are more: --after {jobs[2]}\n"
    assert ids(file_url, batch_id, "--limit", "3", "--after", jobs[2]) == jobs[3:6]
    assert ids(file_url, batch_id, "--after", jobs[5]) == [jobs[6]]


def test_nothing(database: Database, file_url: str) -> None:
    """People are told."""
    batch_id = make_batch(database)
    assert here("jobs", batch_id, url=file_url) == (0, "", "It has no jobs.\n")
    assert here("jobs", batch_id, "--state", "failed", url=file_url) == (0, "", "No job fits.\n")


def test_arguments_are_for_programs(app: Celery) -> None:
    """With all else that is known of a job."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.add"].delay(1, y=2)
    [job] = records(here("jobs", batch.id, "--json", app=app))
    assert (job["task"], job["args"], job["kwargs"], job["attempts"]) == ("shop.add", [1], {"y": 2}, 0)
