"""Messages that are gone, and outcomes that nobody wrote, are found by real workers; each repair is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from acceptance.running import PATIENCE, Project, wait_for

from celery_flows import flows_repaired
from celery_flows.messaging.sweep import sweep
from celery_flows.store.types import utcnow

#: Short enough to wait for.
SHORT = {"lease_timeout": 1.5, "heartbeat_interval": 0.4, "sweep_interval": 0.3}


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
    with project.worker("prefork", 1, patches="lose_outcomes", **SHORT) as worker:
        batch, job_id = project.enroll("once", "unwritten")
        job = project.ended(batch, job_id)
        assert (job.state, job.error_class) == ("failed", "WorkerLost")
        worker.await_log(f"Repaired job {job_id}: found running, but not in its worker, gave it up")
    assert len(project.seen("ran", "unwritten")) == 1
