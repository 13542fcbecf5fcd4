"""Users' tests as `mypy --strict` must take them."""

from __future__ import annotations

from datetime import datetime

from celery_flows import Batch
from celery_flows.queries.record import JobRecord
from celery_flows.testing import (
    Clock,
    InProcessWorker,
    Ran,
    assert_callback,
    assert_enrolled,
    drain,
    enrolled,
    in_memory,
)


def test_it(flows_worker: InProcessWorker, flows_clock: Clock) -> None:
    """With the fixtures of the plug-in."""
    batch = Batch.create()
    found: list[JobRecord] = enrolled(batch)
    assert found == assert_enrolled("shop.score", args=(1,), kwargs={"again": True}, batch=batch, times=1)
    ran: list[Ran] = flows_worker.drain(at_most=1, queues=["mail"])
    job_id: str = flows_worker.die()
    now: datetime = flows_clock.advance(minutes=2)
    lost: int = flows_worker.sweep().lost
    called: list[JobRecord] = assert_callback(batch, "complete", ran=False)
    print(ran, job_id, now, lost, called)


def test_without_pytest() -> None:
    """With the context manager."""
    with in_memory() as worker:
        worker.freeze().advance(days=1)
        drain(raises=True)
