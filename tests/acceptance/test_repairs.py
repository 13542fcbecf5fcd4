"""Messages that are gone, and outcomes that nobody wrote, are found by real workers; each repair is told."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from acceptance.running import PATIENCE, Project, wait_for
from services import flush_redis

from celery_flows import flows_repaired
from celery_flows.messaging.sweep import sweep
from celery_flows.store.types import utcnow

#: Short enough to wait for.
SHORT = {"lease_timeout": 3.0, "heartbeat_interval": 0.4, "sweep_interval": 0.3}


@contextmanager
def told() -> Iterator[list[tuple[str, str, str | None]]]:
    """The repairs that this process tells of: what was found, what was done, the job."""
    heard: list[tuple[str, str, str | None]] = []

    def hear(found: str, done: str, job_id: str | None, **_: Any) -> None:
        heard.append((found, done, job_id))

    flows_repaired.connect(hear)
    yield heard
    flows_repaired.disconnect(hear)


@pytest.mark.parametrize(("broker", "database"), [("redis", "postgresql"), ("rabbitmq", "mariadb")])
def test_a_purged_queue_is_filled_again(make_project: Callable[..., Project], broker: str, database: str) -> None:
    """After `requeue_after`; until then, and while anything is in the queue, the sweep sends nothing twice."""
    project = make_project(broker, database)
    project.app.conf.flows_requeue_after = 1.0
    batch, job_id = project.enroll("once", "purged")
    assert sweep(project.runtime).published == 0
    wait_for(lambda: _seconds_in_queue(project, job_id) > 1.0)
    # A backlog, however old, is not doubled.
    assert sweep(project.runtime).published == 0
    assert project.app.control.purge() == 1
    with told() as heard:
        assert sweep(project.runtime).published == 1
    assert heard == [("gone from its queue", "published it", job_id)]
    with project.worker("prefork", 1):
        assert project.ended(batch, job_id).attempt == 1


def test_a_flushed_broker_loses_nothing(make_project: Callable[..., Project]) -> None:
    """What runs and what is in a worker's memory goes on; what was in the queue is published again."""
    project = make_project("redis", "postgresql", worker_prefetch_multiplier=1)
    with project.worker("prefork", 1, requeue_after=1.0, **SHORT):
        batch = project.batch()
        with batch.jobs():
            ids = [project.gated.delay(str(number), str(project.gate)).id for number in range(3)]
        # One runs, one is in memory, one is in the queue.
        wait_for(lambda: project.row(ids[1]).worker_id is not None)
        flush_redis(project.settings["celery"]["broker_url"])
        wait_for(lambda: project.row(ids[2]).delivery == 2)
        assert [project.row(one).delivery for one in ids[:2]] == [1, 1]
        project.gate.touch()
        assert batch.wait(PATIENCE) == "complete"
        assert project.announced(batch) == ["complete", "settled"]
    assert sorted(words[0] for words in project.seen("ran")) == ["0", "1", "2"]
    assert [project.row(one).attempt for one in ids] == [1, 1, 1]


def _seconds_in_queue(project: Project, job_id: str) -> float:
    with project.runtime.database.reading() as connection:
        now = connection.scalar(sa.select(utcnow()))
    return float((now - project.row(job_id).queued_at).total_seconds())


def test_what_a_killed_worker_had_received_runs_at_the_next(make_project: Callable[..., Project]) -> None:
    """The broker holds it back for an hour; the rows know in whose memory it was, and follow that lease."""
    project = make_project("redis", "postgresql")
    batch = project.batch(on_loss="retry")
    with project.worker("prefork", 1, **SHORT) as first:
        with batch.jobs():
            ids = [project.gated.delay(str(number), str(project.gate)).id for number in range(4)]
        wait_for(lambda: sum(project.row(one).worker_id is not None for one in ids) == 4)
        assert len(project.seen("began")) == 1
        first.kill()
    project.gate.touch()
    with project.worker("prefork", 1, **SHORT) as second:
        assert batch.wait(PATIENCE) == "complete"
        assert project.announced(batch) == ["complete", "settled"]
        second.await_log("found in the memory of a dead worker, it is published again")
    assert sorted(words[0] for words in project.seen("ran")) == ["0", "1", "2", "3"]


def test_an_outcome_that_nobody_wrote_is_found_by_the_audit(make_project: Callable[..., Project]) -> None:
    """The pool process could not write it, and lives on: its worker sees that it no longer has the job."""
    project = make_project("redis", "postgresql")
    with project.worker("prefork", 1, patches="lose_outcomes", **{**SHORT, "lease_timeout": 60.0}) as worker:
        batch, job_id = project.enroll("once", "unwritten")
        job = project.ended(batch, job_id)
        assert (job.state, job.error_class) == ("failed", "WorkerLost")
        worker.await_log(f"Repaired job {job_id}: found running, but not in its worker, gave it up")
    assert len(project.seen("ran", "unwritten")) == 1


def forget_claim(project: Project, job_id: str) -> None:
    """Leave a running job as it was before its claim, as a crash of PostgreSQL may."""
    jobs = project.tables.jobs
    before = {"state": "queued", "token": None, "worker_id": None, "attempt": jobs.c.attempt - 1}
    with project.runtime.database.engine.begin() as connection:
        assert connection.execute(jobs.update().where(jobs.c.id == job_id).values(before)).rowcount == 1


@pytest.mark.parametrize("task", ["gated", "gated_late"])
def test_a_job_whose_claim_was_forgotten_ends_as_ever(make_project: Callable[..., Project], task: str) -> None:
    """Whether it is over before anybody notices; it has run once."""
    project = make_project("redis", "postgresql")
    with project.worker("prefork", 1):
        batch, job_id = project.enroll(task, "forgotten", str(project.gate))
        wait_for(lambda: project.seen("began", "forgotten"))
        forget_claim(project, job_id)
        project.gate.touch()
        assert project.ended(batch, job_id).state == "complete"
    assert len(project.seen("ran", "forgotten")) == 1


def test_a_forgotten_claim_is_made_again_by_the_jobs_worker(
    make_project: Callable[..., Project],
) -> None:
    """So that the job does not look as if its message were gone, and is not published to run beside itself."""
    project = make_project("redis", "postgresql")
    with project.worker("prefork", 1, requeue_after=2.0, **SHORT) as worker:
        batch, job_id = project.enroll("gated", "forgotten", str(project.gate))
        wait_for(lambda: project.seen("began", "forgotten"))
        claimed = project.row(job_id)
        forget_claim(project, job_id)
        worker.await_log(f"Repaired job {job_id}: found running, its claim forgotten, claimed it again")
        again = project.row(job_id)
        assert (again.state, again.token, again.worker_id) == ("running", claimed.token, claimed.worker_id)
        wait_for(lambda: _seconds_in_queue(project, job_id) > 3.0)
        project.gate.touch()
        assert project.ended(batch, job_id).delivery == 1
    assert len(project.seen("ran", "forgotten")) == 1


def test_what_a_pool_never_takes_is_sent_to_another_worker(make_project: Callable[..., Project]) -> None:
    """A process of the pool is frozen when it gets a job, and its worker lives. Thawed, it comes too late."""
    project = make_project("redis", "postgresql")
    with project.worker("prefork", 1, **SHORT) as frozen:
        child = int(
            subprocess.run(["pgrep", "-P", str(frozen.process.pid)], capture_output=True, check=True).stdout
        )
        os.kill(child, signal.SIGSTOP)
        try:
            batch, job_id = project.enroll("once", "stuck")
            frozen.await_log(f"{job_id}. received")
            project.app.control.cancel_consumer(project.app.conf.task_default_queue, destination=[frozen.name])
            with project.worker("prefork", 1, **SHORT):
                frozen.await_log(f"Repaired job {job_id}: found stuck in its worker, published it")
                job = project.ended(batch, job_id)
        finally:
            os.kill(child, signal.SIGCONT)
        assert (job.state, job.delivery, job.losses) == ("complete", 2, 0)
        frozen.await_log(f"Job {job_id}: delivery 1 is a duplicate or out of date")
    assert len(project.seen("ran", "stuck")) == 1
