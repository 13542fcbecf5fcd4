"""Each way in which a worker can die, whole or in part: what becomes of its jobs; callbacks come once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from acceptance.running import PATIENCE, Project, Worker, wait_for
from celery import Task

from celery_flows import Batch

#: A lease that runs out while a test waits, with heartbeats and sweeps to match.
SHORT = {"lease_timeout": 3.0, "heartbeat_interval": 0.5, "sweep_interval": 0.5}

#: The queue that only a worker which is to die consumes.
DOOMED = "doomed"


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Project]) -> Project:
    """On Redis and PostgreSQL. A worker takes no more messages than it runs, so that they can go elsewhere."""
    return make_project("redis", "postgresql", worker_prefetch_multiplier=1)


@pytest.fixture(scope="module")
def survivor(project: Project) -> Iterator[Worker]:
    """A worker that lives, sweeps, and loses its pool's processes at most."""
    with project.worker("prefork", 2, **SHORT) as worker:
        yield worker


@contextmanager
def doomed(project: Project, *words: str) -> Iterator[Worker]:
    """A worker that is to die, on a queue of its own; what it leaves is not its fixture's to stop well."""
    with project.worker("prefork", 2, "-Q", DOOMED, *words, **SHORT) as worker:
        yield worker


@contextmanager
def inherits(project: Project, survivor: Worker) -> Iterator[None]:
    """Let the worker that lives consume the queue of the one that died."""
    project.app.control.add_consumer(DOOMED, reply=True, destination=[survivor.name], timeout=10)
    yield
    project.app.control.cancel_consumer(DOOMED, reply=True, destination=[survivor.name], timeout=10)


def begin(project: Project, task: str, key: str, **batch: Any) -> tuple[Batch, str]:
    """Enroll a job on the doomed worker's queue, and wait until it runs there."""
    made = project.batch(**batch)
    with made.jobs():
        job = getattr(project, task).apply_async((key, str(project.gate)), queue=DOOMED).id
    wait_for(lambda: project.seen("began", key))
    return made, job


def leases(project: Project) -> list[Any]:
    """The rows of workers, by their process."""
    table = project.tables.workers
    with project.runtime.database.reading() as connection:
        return list(connection.execute(table.select().where(table.c.id != "sweep")))


@pytest.fixture(autouse=True)
def closed_gate(project: Project) -> None:
    """Each test opens the gate itself."""
    project.gate.unlink(missing_ok=True)


# ---------------------------------------------------------------- a process of the pool


#: Task, what its batch says of losses, and: how it ends, how often it began, how often it was lost.
KILLED = {
    ("killed", None): ("failed", 1, 1),
    ("killed", "retry"): ("complete", 2, 1),
    ("killed_again", "fail"): ("complete", 2, 1),
    ("killed_acked", None): ("failed", 1, 1),
    ("killed_late", None): ("complete", 2, 1),
    # A retry as Celery means it, since 5.7, is no loss.
    ("killed_retried", None): ("complete", 2, 0 if hasattr(Task, "retry_on_worker_lost") else 1),
    ("limited_late", None): ("complete", 2, 1),
    ("poison", None): ("failed", 3, 3),
}


@pytest.fixture(scope="module")
def killed(project: Project, survivor: Worker) -> dict[tuple[str, str | None], tuple[Batch, str]]:
    """A batch of one job of each sort, all at once, as Celery looks for dead processes every few seconds."""
    found = {}
    for task, on_loss in KILLED:
        batch = project.batch(on_loss=on_loss)
        with batch.jobs():
            found[task, on_loss] = batch, getattr(project, task).delay(f"{task}-{on_loss}").id
    return found


@pytest.mark.parametrize(("task", "on_loss"), KILLED)
def test_a_killed_process_loses_its_job_by_how_that_was_delivered(
    project: Project, killed: dict[tuple[str, str | None], tuple[Batch, str]], task: str, on_loss: str | None
) -> None:
    """Acknowledged, early or late: on_loss decides. Requeued or retried by Celery: once more, and no third time.

    A job that kills its process each time has failed after the third.
    """
    state, began, losses = KILLED[task, on_loss]
    job = project.ended(*killed[task, on_loss])
    assert (job.state, job.attempt, job.losses) == (state, began, losses)
    assert job.error_class == (None if state == "complete" else "WorkerLost")
    assert project.seen("began", f"{task}-{on_loss}") == [[number + 1] for number in range(began)]


def test_a_process_that_is_replaced_after_each_task_loses_nothing(project: Project, survivor: Worker) -> None:
    """With worker_max_tasks_per_child=1 every job has a process of its own; then the worker stops warmly.

    It finishes what runs, and leaves nothing behind: not its lease, and not a job that only it knew of.
    """
    with doomed(project, "--max-tasks-per-child", "1") as worker:
        crowd = project.batch()
        with crowd.jobs():
            for number in range(6):
                project.add.apply_async((number, 1), queue=DOOMED)
        assert (crowd.wait(PATIENCE), project.announced(crowd)) == ("complete", ["complete", "settled"])
        batch, job_id = begin(project, "gated", "warm")
        worker.process.send_signal(signal.SIGTERM)
        worker.await_log("Warm shutdown")
        waiting, waiting_id = project.enroll("once", "waited", queue=DOOMED)
        project.gate.touch()
        assert worker.process.wait(PATIENCE) == 0
    assert project.ended(batch, job_id).losses == 0
    assert worker.process.pid not in [lease.pid for lease in leases(project)]
    with inherits(project, survivor):
        assert project.ended(waiting, waiting_id).attempt == 1


# ---------------------------------------------------------------- the whole worker


def test_a_cold_shutdown_hands_back_what_ran(project: Project, survivor: Worker) -> None:
    """At once, not after a lease: what was acknowledged early is lost, what was not runs again elsewhere."""
    with doomed(project) as worker:
        early, early_id = begin(project, "gated", "cold-early")
        late, late_id = begin(project, "gated_late", "cold-late")
        worker.process.send_signal(signal.SIGQUIT)
        worker.process.wait(PATIENCE)
    assert worker.process.pid not in [lease.pid for lease in leases(project)]
    job = project.ended(early, early_id)
    assert (job.state, job.error_class) == ("failed", "WorkerLost")
    project.gate.touch()
    with inherits(project, survivor):
        assert project.ended(late, late_id).state == "complete"
    assert project.seen("ran", "cold-early") == []
    assert len(project.seen("ran", "cold-late")) == 1


def test_a_killed_worker_loses_its_jobs_when_its_lease_is_over(make_project: Callable[..., Project]) -> None:
    """On RabbitMQ, which brings what was not acknowledged at once: that is dropped, and the sweep sends it anew.

    The worker comes back under the same name, and is not taken for the one that died.
    """
    project = make_project("rabbitmq", "mariadb")
    with doomed(project, "-n", "same@host") as worker:
        early, early_id = begin(project, "gated", "early")
        late, late_id = begin(project, "gated_late", "late")
        worker.kill()
    project.gate.touch()
    with doomed(project, "-n", "same@host", "-Q", f"{DOOMED},{project.app.conf.task_default_queue}"):
        job = project.ended(early, early_id)
        assert (job.state, job.error_class, job.losses) == ("failed", "WorkerLost", 1)
        job = project.ended(late, late_id)
        assert (job.state, job.attempt, job.losses, job.delivery) == ("complete", 2, 1, 2)
    assert (len(project.seen("began", "late")), len(project.seen("ran", "late"))) == (2, 1)
    assert project.seen("ran", "early") == []
    assert leases(project) == []


def test_a_worker_that_was_stopped_for_long_reports_late(project: Project, survivor: Worker) -> None:
    """Given up, it goes on: a success is accepted where nothing had followed, and dropped where another runs.

    And it takes jobs again.
    """
    second_gate = project.gate.with_name("second.gate")
    with doomed(project) as worker:
        tolerant, failed_id = begin(project, "gated", "tolerated", tolerate=1)
        other, again_id = begin(project, "gated_again", "again")
        with tolerant.jobs():
            project.gated.delay("held", str(second_gate))
        with inherits(project, survivor):
            os.killpg(worker.process.pid, signal.SIGSTOP)
            wait_for(lambda: project.row(failed_id).state == "failed", lambda: project.row(failed_id))
            wait_for(lambda: len(project.seen("began", "again")) == 2, lambda: project.row(again_id))
            os.killpg(worker.process.pid, signal.SIGCONT)
            project.gate.touch()
            wait_for(lambda: project.row(failed_id).state == "complete", lambda: project.row(failed_id))
            assert project.row(failed_id).losses == 1
            second_gate.touch()
            assert (tolerant.wait(PATIENCE), project.announced(tolerant)) == ("complete", ["complete", "settled"])
            job = project.ended(other, again_id)
            assert (job.state, job.attempt, job.losses) == ("complete", 2, 1)
            wait_for(lambda: len(project.seen("ran", "again")) == 2)
        assert project.run("once", "after", queue=DOOMED).attempt == 1
