"""A thousand jobs with failures and retries, on every pool and both brokers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from acceptance.running import PATIENCE, Project

from celery_flows import Batch

#: Every pool, broker and database, in pairs that leave none of them out. Celery itself runs no more than a
#: dozen tasks a second under gevent on RabbitMQ, so there the crowd is small.
PLACES = [
    ("prefork", 2, "rabbitmq", "mariadb", 1000),
    ("threads", 4, "redis", "sqlite", 1000),
    ("gevent", 20, "redis", "postgresql", 1000),
    ("gevent", 20, "rabbitmq", "mariadb", 50),
    ("solo", 1, "rabbitmq", "postgresql", 1000),
]


def enroll_crowd(project: Project, batch: Batch, size: int) -> None:
    """Enroll a crowd of which one in fifty fails, and one in ten is retried."""
    with batch.jobs():
        for number in range(size):
            if number % 50 == 3:
                project.broken.delay()
            elif number % 20 == 0:
                project.retried.delay(2)
            elif number % 20 == 10:
                project.autoretried.delay(1)
            else:
                project.add.delay(number, 1)


def watch(batch: Batch, size: int) -> None:
    """See that the numbers add up at every look, until the batch is finished."""
    while batch.settled_at is None:
        now = batch.progress
        assert now.total == size == now.complete + now.failed + now.cancelled + now.pending
        try:
            batch.wait(0.2)
        except TimeoutError:
            continue


@pytest.mark.parametrize(("pool", "concurrency", "broker", "database", "size"), PLACES)
def test_a_crowd_ends_with_exact_counts_and_each_callback_once(
    make_project: Callable[..., Project], pool: str, concurrency: int, broker: str, database: str, size: int
) -> None:
    """What is tolerated completes; what is not fails, once; every callback of the round runs exactly once."""
    project, failures = make_project(broker, database), size // 50
    with project.worker(pool, concurrency):
        tolerant = project.batch(tolerate=failures)
        tolerant.on("success", project.app.signature("jobs.announce", ("second complete",)))
        strict = project.batch(tolerate=1)
        enroll_crowd(project, tolerant, size)
        with strict.jobs():
            for call in (project.broken, project.broken, project.broken):
                call.delay()
        watch(tolerant, size)
        assert strict.wait(PATIENCE) == "failed"
        assert tolerant.status == "complete"
        assert project.announced(tolerant) == ["complete", "second complete", "settled"]
        assert project.announced(strict) == ["failure", "settled"]
    wanted = {"total": size, "complete": size - failures, "failed": failures, "cancelled": 0, "pending": 0}
    assert dict(tolerant.progress) == wanted
    # Nothing was announced late, while the worker stopped.
    assert len(project.seen("announced", tolerant.id)) + len(project.seen("announced", strict.id)) == 5
