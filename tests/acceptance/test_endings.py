"""Each way in which a job can end leaves it in its state, in real workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import celery
import pytest
from acceptance.running import Project, Worker, wait_for

from celery_flows.messaging.sweep import sweep


class Place(NamedTuple):
    """A project and the worker that runs it."""

    project: Project
    worker: Worker


@pytest.fixture(scope="module")
def prefork(make_project: Callable[..., Project], redis_url: str) -> Iterator[Place]:
    """Two processes, on Redis and PostgreSQL."""
    project = make_project("redis", "postgresql", result_backend=redis_url)
    with project.worker("prefork", 2) as worker:
        yield Place(project, worker)


@pytest.fixture(scope="module")
def threads(make_project: Callable[..., Project], redis_url: str) -> Iterator[Place]:
    """Two threads, on RabbitMQ and MariaDB."""
    project = make_project("rabbitmq", "mariadb", result_backend=redis_url)
    with project.worker("threads", 2) as worker:
        yield Place(project, worker)


@pytest.fixture(scope="module")
def gevent(make_project: Callable[..., Project]) -> Iterator[Place]:
    """Four greenlets, on Redis and MariaDB."""
    project = make_project("redis", "mariadb")
    with project.worker("gevent", 4) as worker:
        yield Place(project, worker)


@pytest.fixture(params=["prefork", "threads"])
def place(request: pytest.FixtureRequest) -> Place:
    """A worker of each kind: prefork on Redis, threads on RabbitMQ."""
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("task", "state", "error", "attempts"),
    [
        ("ignored", "complete", None, 1),
        ("broken", "failed", "ValueError", 1),
        ("exhausted", "failed", "ValueError", 2),
        ("rejected", "failed", "Reject", 1),
        ("leaves", "failed", "WorkerLost", 1),
        ("jobs.unknown", "failed", "NotRegistered", 0),
    ],
)
def test_a_task_ends_by_itself(place: Place, task: str, state: str, error: str | None, attempts: int) -> None:
    """Ignored is complete; raised for good, rejected, left by sys.exit and unknown to the worker is failed."""
    job = place.project.run(task)
    assert (job.state, job.error_class, job.attempt) == (state, error, attempts)


def test_running_out_of_memory_fails_the_job(threads: Place) -> None:
    """MemoryError is a failure of the job; on threads the worker goes on."""
    job = threads.project.run("greedy")
    assert (job.state, job.error_class) == ("failed", "MemoryError")
    assert threads.project.run("add", 1, 1).state == "complete"


def test_a_retry_asked_for_in_passing_is_the_end_that_counts(place: Place) -> None:
    """With throw=False a task returns although its retry is under way: the retry's end is the job's."""
    job = place.project.run("both", "both" + place.worker.name)
    assert (job.state, job.attempt) == ("complete", 2)
    assert place.project.seen("ran", "both" + place.worker.name) == [[1], [2]]


@pytest.mark.parametrize("task", ["back_early", "back_late"])
def test_a_job_rejected_for_requeueing_runs_again(place: Place, task: str) -> None:
    """The broker brings back what is acknowledged late; what was acknowledged before it ran is published again."""
    key = task + place.worker.name
    job = place.project.run(task, key)
    assert (job.state, job.attempt) == ("complete", 3)
    assert place.project.seen("ran", key) == [[1], [2], [3]]


@pytest.mark.parametrize("shape", ["task", "chain", "group", "chord"])
@pytest.mark.parametrize(
    ("how", "state"), [("well", "complete"), ("badly", "failed"), ("again", "complete"), ("replaced", "failed")]
)
def test_a_replaced_job_ends_with_its_replacement(place: Place, shape: str, how: str, state: str) -> None:
    """The job stays unfinished until what replaced it has ended, and fails with any part of it."""
    key = f"{shape}-{how}-{place.worker.name}"
    job = place.project.run("replaced", shape, key, how)
    assert job.state == state
    if state == "failed":
        assert job.error_class == "ValueError"
    elif shape != "task":
        assert ["last"] in place.project.seen("part", key)


def test_a_job_whose_replacement_can_not_be_sent_fails(place: Place) -> None:
    """It was handed over already, and no message is left that would end it."""
    job = place.project.run("replaced", "chain", "unsent" + place.worker.name, "unsent")
    assert job.state == "failed"


def test_a_job_revoked_before_its_start_is_cancelled(place: Place) -> None:
    """The worker discards it, and says so."""
    project = place.project
    batch = project.batch()
    with batch.jobs():
        result = project.once.delay("revoked")
        assert project.app.control.revoke(result.id, reply=True, timeout=10, limit=1)
    assert project.ended(batch, result.id).state == "cancelled"
    assert not project.seen("ran", "revoked")


def test_a_running_job_that_is_revoked_runs_on(place: Place) -> None:
    """Without terminate, Celery does not touch what has begun, and its outcome counts."""
    project = place.project
    project.gate.unlink(missing_ok=True)
    batch, job_id = project.enroll("gated", "revoked running", str(project.gate))
    wait_for(lambda: project.seen("began", "revoked running"))
    assert project.app.control.revoke(job_id, reply=True, timeout=10, limit=1)
    project.gate.touch()
    assert project.ended(batch, job_id).state == "complete"


@pytest.mark.parametrize("kind", ["prefork", "gevent"])
def test_a_running_job_that_is_terminated_is_cancelled(kind: str, request: pytest.FixtureRequest) -> None:
    """Its process dies or its greenlet is killed, on request: that is a cancellation, not a failure."""
    project = request.getfixturevalue(kind).project
    batch, job_id = project.enroll("endless", kind)
    wait_for(lambda: project.seen("began", kind))
    project.app.control.revoke(job_id, terminate=True)
    assert project.ended(batch, job_id).state == "cancelled"


def test_a_job_that_expired_is_cancelled_by_the_worker(prefork: Place) -> None:
    """On Redis the worker gets the message and discards it."""
    job = prefork.project.run("once", "expired", expires=-1)
    assert (job.state, job.attempt, job.error_message) == ("cancelled", 0, "expired")
    assert not prefork.project.seen("ran", "expired")


def test_a_job_whose_message_the_broker_dropped_is_cancelled_by_the_sweep(threads: Place) -> None:
    """RabbitMQ drops an expired message without a word; the row knows when it expires."""
    project = threads.project
    batch, job_id = project.enroll("once", "dropped", expires=0.1, queue="nobody-reads")
    wait_for(lambda: sweep(project.runtime).expired)
    assert project.ended(batch, job_id).state == "cancelled"


def test_a_job_whose_message_can_not_be_read_fails(place: Place) -> None:
    """Celery acknowledges it and sends no signal; the message's headers still tell whose it was."""
    project = place.project
    batch, job_id = project.enroll("once", "garbled", queue="limbo")
    project.send_message(project.take_message("limbo"), body=b"\xff not json")
    job = project.ended(batch, job_id)
    assert (job.state, job.error_class, job.attempt) == ("failed", "DecodeError", 0)


@pytest.mark.parametrize("kind", ["prefork", "gevent"])
def test_a_job_over_its_hard_time_limit_fails(kind: str, request: pytest.FixtureRequest) -> None:
    """Nothing in the task lives to tell: the worker's main process does."""
    job = request.getfixturevalue(kind).project.run("limited", "limited-" + kind)
    assert (job.state, job.error_class, job.attempt) == ("failed", "TimeLimitExceeded", 1)


@pytest.mark.parametrize(
    ("catches", "state", "error"), [(False, "failed", "SoftTimeLimitExceeded"), (True, "complete", None)]
)
def test_a_job_over_its_soft_time_limit_decides_itself(
    prefork: Place, catches: bool, state: str, error: str | None
) -> None:
    """The limit is an exception in the task: who lets it pass fails, who catches it may end well."""
    job = prefork.project.run("limited_softly", catches)
    assert (job.state, job.error_class, job.attempt) == (state, error, 1)


def test_a_job_whose_process_was_killed_fails(prefork: Place) -> None:
    """Its message was acknowledged before it ran, so nothing brings it back."""
    job = prefork.project.run("killed", "killed")
    assert (job.state, job.error_class, job.attempt) == ("failed", "WorkerLost", 1)


@pytest.mark.parametrize("task", ["killed_late", "limited_late", "killed_retried"])
def test_a_job_that_lost_its_process_and_comes_again_runs_again(prefork: Place, task: str) -> None:
    """Celery has the broker bring the message back, or sends another: either is the next attempt."""
    if task == "killed_retried" and celery.VERSION < (5, 7):
        pytest.skip("older Celery has no retry_on_worker_lost")
    job = prefork.project.run(task, task)
    assert (job.state, job.attempt) == ("complete", 2)
    assert prefork.project.seen("began", task) == [[1], [2]]


@pytest.mark.parametrize(
    ("pool", "task", "error"), [("solo", "leaves", "WorkerLost"), ("prefork", "greedy", "MemoryError")]
)
def test_a_job_that_takes_its_worker_with_it_is_failed(
    make_project: Callable[..., Project], pool: str, task: str, error: str
) -> None:
    """SystemExit ends a solo worker, MemoryError a prefork one; the job was settled before, and counts."""
    project = make_project("redis", "sqlite")
    with project.worker(pool, 1) as worker:
        batch, job_id = project.enroll(task)
        worker.process.wait(60)
        assert project.row(job_id).state == "failed"
    with project.worker("solo", 1):
        assert project.ended(batch, job_id).error_class == error
