"""Each way in which a worker can die, whole or in part: what becomes of its jobs; callbacks come once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
    """On Redis and PostgreSQL. A worker takes no more messages than it runs, so that they can go elsewhere.

    What is not acknowledged in time is delivered again, by whoever looks first.
    """
    options = {"visibility_timeout": 3}
    return make_project("redis", "postgresql", worker_prefetch_multiplier=1, broker_transport_options=options)


@pytest.fixture(scope="module")
def survivor(project: Project) -> Iterator[Worker]:
    """A worker that lives, sweeps, and loses its pool's processes at most."""
    with project.worker("prefork", 2, **SHORT) as worker:
        yield worker


@contextmanager
def doomed(project: Project, *words: str, concurrency: int = 2, patches: str = "") -> Iterator[Worker]:
    """A worker that is to die, on a queue of its own; what it leaves is not its fixture's to stop well."""
    with project.worker("prefork", concurrency, "-Q", DOOMED, *words, patches=patches, **SHORT) as worker:
        yield worker


@contextmanager
def inherits(project: Project, survivor: Worker) -> Iterator[None]:
    """Let the worker that lives consume the queue of the one that died."""
    project.app.control.add_consumer(DOOMED, reply=True, destination=[survivor.name], timeout=10)
    yield
    project.app.control.cancel_consumer(DOOMED, reply=True, destination=[survivor.name], timeout=10)


def begin(project: Project, task: str, key: str, gate: Path | None = None, **batch: Any) -> tuple[Batch, str]:
    """Enroll a job on the doomed worker's queue, and wait until it runs there."""
    made = project.batch(**batch)
    with made.jobs():
        job = getattr(project, task).apply_async((key, str(gate or project.gate)), queue=DOOMED).id
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


def test_a_process_killed_before_its_claim_has_its_job_run_again(make_project: Callable[..., Project]) -> None:
    """Its message was acknowledged, and nothing had begun: whatever is said of losses, and at once."""
    project = make_project("redis", "postgresql")
    with project.worker("prefork", 1, patches="die_before_claim"):
        job = project.run("once", "unclaimed")
    assert (job.state, job.attempt, job.losses, job.delivery) == ("complete", 1, 1, 2)
    assert len(project.seen("ran", "unclaimed")) == 1


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


# ---------------------------------------------------------------- a message that only seems lost


def restore_overdue(project: Project) -> None:
    """Do what a worker does every now and then: put back what Redis has waited for too long."""
    with project.app.connection_for_read() as connection, connection.channel() as channel:
        channel.qos.restore_visible()


def test_a_message_redelivered_while_its_job_runs_is_dropped(project: Project, survivor: Worker) -> None:
    """Redis brings back what is not acknowledged within its visibility timeout; the job runs once."""
    batch, job_id = project.enroll("gated_late", "slow", str(project.gate))
    wait_for(lambda: project.seen("began", "slow"))
    dropped = f"Job {job_id}: delivery 1 is a duplicate or out of date"
    wait_for(lambda: restore_overdue(project) or dropped in survivor.log, lambda: survivor.log)
    assert project.row(job_id).state == "running"
    project.gate.touch()
    job = project.ended(batch, job_id)
    assert (job.state, job.attempt, job.delivery, job.losses) == ("complete", 1, 1, 0)
    assert project.seen("began", "slow") == project.seen("ran", "slow") == [[]]


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


def test_a_soft_shutdown_waits_then_hands_back_what_runs(
    project: Project, survivor: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease holds while Celery waits, even for longer than a lease: what ends meanwhile ends well.

    The rest is handed back at once, as by a cold shutdown.
    """
    monkeypatch.setitem(project.settings["celery"], "worker_soft_shutdown_timeout", 5.0)
    shut = project.gate.with_name("shut.gate")
    with doomed(project, concurrency=3) as worker:
        ends, ends_id = begin(project, "gated", "soft-ends")
        early, early_id = begin(project, "gated", "soft-early", shut)
        late, late_id = begin(project, "gated_late", "soft-late", shut)
        worker.process.send_signal(signal.SIGQUIT)
        worker.await_log("Initiating Soft Shutdown")
        project.gate.touch()
        job = project.ended(ends, ends_id)
        assert (job.state, job.losses, worker.process.poll()) == ("complete", 0, None)
        worker.process.wait(PATIENCE)
    assert worker.process.pid not in [lease.pid for lease in leases(project)]
    job = project.ended(early, early_id)
    assert (job.state, job.error_class) == ("failed", "WorkerLost")
    assert "not heard of" not in job.error_message
    shut.touch()
    with inherits(project, survivor):
        job = project.ended(late, late_id)
    assert (job.state, len(project.seen("ran", "soft-late"))) == ("complete", 1)
    assert project.seen("ran", "soft-early") == []


#: Task, what its batch says of losses, and: how it ends, how often it began.
KILLED_WHOLE = {
    ("gated", "fail"): ("failed", 1),
    ("gated", "retry"): ("complete", 2),
    ("gated_again", None): ("complete", 2),
    ("gated_late", None): ("complete", 2),
}


@pytest.fixture(scope="module")
def killed_whole(
    make_project: Callable[..., Project],
) -> Iterator[tuple[Project, dict[tuple[str, str | None], tuple[Batch, str]]]]:
    """A job of each sort whose worker's main process is killed; the next has the same name and process id."""
    project = make_project("rabbitmq", "mariadb")
    same = {"concurrency": len(KILLED_WHOLE), "patches": "pid_one"}
    with doomed(project, "-n", "same@host", **same) as worker:
        begun = {
            (task, on_loss): begin(project, task, f"{task}-{on_loss}", on_loss=on_loss)
            for task, on_loss in KILLED_WHOLE
        }
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait(PATIENCE)
    project.gate.touch()
    with doomed(project, "-n", "same@host", "-Q", f"{DOOMED},{project.app.conf.task_default_queue}", **same):
        yield project, begun


@pytest.mark.parametrize(("task", "on_loss"), KILLED_WHOLE)
def test_a_killed_worker_loses_its_jobs_when_its_lease_is_over(
    killed_whole: tuple[Project, dict[tuple[str, str | None], tuple[Batch, str]]], task: str, on_loss: str | None
) -> None:
    """Acknowledged early: on_loss decides. Late: RabbitMQ's own message is dropped, the sweep's runs.

    A worker that comes back under the same name and process id is not taken for the one that died.
    """
    project, begun = killed_whole
    state, began = KILLED_WHOLE[task, on_loss]
    job = project.ended(*begun[task, on_loss])
    assert (job.state, job.attempt, job.losses, job.delivery) == (state, began, 1, began)
    key = f"{task}-{on_loss}"
    assert (len(project.seen("began", key)), len(project.seen("ran", key))) == (began, began - 1)
    if state == "failed":
        assert job.error_class == "WorkerLost"
        assert "not heard of for 3 s" in job.error_message
    # The dead one's lease is gone.
    assert [lease.pid for lease in leases(project)] == [1]


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
