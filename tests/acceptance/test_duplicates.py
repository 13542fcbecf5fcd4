"""Messages that come twice, late or out of turn, and the trap of a retry that is published too early."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from acceptance import patches
from acceptance.running import Project, Worker, wait_for

from celery_flows.messaging import publisher
from celery_flows.messaging.sweep import sweep


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Project]) -> Project:
    """The project of most of these tests."""
    return make_project("rabbitmq", "postgresql")


@pytest.fixture(scope="module")
def worker(project: Project) -> Iterator[Worker]:
    """A worker that runs three at once."""
    with project.worker("threads", 3) as worker:
        yield worker


def test_a_message_that_comes_twice_runs_once(project: Project, worker: Worker) -> None:
    """While the job runs, and after it has ended, a second delivery is dropped and logged."""
    batch, job_id = project.enroll("gated", "twice", str(project.gate), queue="limbo")
    message = project.take_message("limbo")
    project.send_message(message)
    project.send_message(message)
    dropped = f"Job {job_id}: delivery 1 is a duplicate or out of date"
    worker.await_log(dropped)
    project.gate.touch()
    assert project.ended(batch, job_id).attempt == 1
    project.send_message(message)
    wait_for(lambda: worker.log.count(dropped) == 2, lambda: worker.log)
    assert project.seen("began", "twice") == project.seen("ran", "twice") == [[]]
    assert project.row(job_id).attempt == 1


def test_a_message_that_was_published_again_is_out_of_date(project: Project, worker: Worker) -> None:
    """A producer died after sending and before noting it: the sweep's message counts, the first is dropped."""
    batch, job_id = project.crash("die_before_marking", "stale", "limbo")
    first = project.take_message("limbo")
    sweep(project.runtime, age=0)
    second = project.take_message("limbo")
    project.send_message(first)
    worker.await_log(f"Job {job_id}: delivery 1 is a duplicate or out of date")
    assert not project.seen("ran", "stale")
    project.send_message(second)
    assert project.ended(batch, job_id).attempt == 1
    assert project.seen("ran", "stale") == [[1]]


def test_a_job_claimed_before_it_is_marked_is_not_set_back(
    project: Project, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may be faster than the producer's note that the message was sent: the job goes on from there."""
    monkeypatch.setattr(patches, "seen", lambda *words: claimed.append(words))
    monkeypatch.setattr(publisher, "mark_published", patches.marking_late(lambda _: True))
    claimed: list[object] = []
    job = project.run("once", "fast")
    assert (job.state, job.attempt, job.publishing_since) == ("complete", 1, None)
    assert claimed == [("claimed before the mark", job.id)]


def test_a_retry_claimed_before_it_is_marked_goes_on(make_project: Callable[..., Project]) -> None:
    """Its row is written first, so the next attempt may begin before the last one has even ended."""
    project = make_project("redis", "mariadb")
    with project.worker("threads", 3, patches="mark_after_claim"):
        job = project.run("retried", 2)
    assert (job.state, job.attempt, job.publishing_since) == ("complete", 3, None)
    assert project.seen("claimed before the mark", job.id) == [[], []]


def test_a_retry_published_before_its_row_strands_the_job(make_project: Callable[..., Project]) -> None:
    """The trap that the order above avoids: the message meets a running job, is dropped, and none is left."""
    project = make_project("redis", "postgresql")
    with project.worker("threads", 3, patches="publish_before_row") as worker:
        batch, job_id = project.enroll("retried", 1)
        wait_for(lambda: project.seen("sent", job_id))
        worker.await_log(f"Job {job_id}: delivery 2 is a duplicate or out of date")
        project.gate.touch()
        worker.await_log(f"{job_id}. retry")
        row = wait_for(lambda: (row := project.row(job_id)).state == "retrying" and row)
        assert (row.publishing_since, sweep(project.runtime, age=0).published) == (None, 0)
        assert batch.settled_at is None
    assert project.app.control.purge() == 0
