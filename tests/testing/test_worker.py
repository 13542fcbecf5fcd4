"""A worker in the test's own thread: how it dies, sweeps, and has a clock of its own."""

from __future__ import annotations

import pytest
from celery import Celery

from celery_flows import Batch
from celery_flows.errors import BlockMisuse
from celery_flows.messaging import runtime
from celery_flows.testing import InProcessWorker, assert_callback


def filled(worker: InProcessWorker, jobs: int = 2, **options: str) -> Batch:
    """A batch of so many jobs, that notes when it is complete or failed."""
    note = worker.app.tasks["shop.note"]
    batch = Batch.create(**options).on("complete", note).on("failure", note)  # type: ignore[arg-type] # some of them
    with batch.jobs():
        for number in range(jobs):
            worker.app.tasks["shop.add"].delay(number)
    return batch


def test_a_lost_job_fails_when_its_lease_has_run_out(worker: InProcessWorker) -> None:
    """Not before; nobody waits for it, and explain() speaks of the same time."""
    clock = worker.freeze()
    batch = filled(worker)
    job = worker.die()
    assert [one.args for one in worker.drain()] == [[1]]
    clock.advance(seconds=60 - 1)
    assert (worker.sweep().lost, batch.status) == (0, "running")
    assert "is silent for 59 s; its lease ends at" in str(batch.explain())
    clock.advance(seconds=2)
    assert (worker.sweep().lost, batch.status) == (1, "failed")
    assert (batch.failed_jobs[0].id, batch.failed_jobs[0].error_class) == (job, "WorkerLost")
    worker.drain()
    assert_callback(batch, "failure")


def test_a_lost_job_that_bears_it_runs_again(worker: InProcessWorker) -> None:
    """As its second attempt; after three losses it fails."""
    clock = worker.freeze()
    batch = filled(worker, 1, on_loss="retry")
    for _ in range(2):
        worker.die()
        clock.advance(minutes=2)
        assert worker.sweep().lost == 1
    assert [one.state for one in worker.drain()] == ["SUCCESS", "SUCCESS"]
    assert batch.completed_jobs[0].attempts == 3


def test_a_message_that_is_gone(worker: InProcessWorker) -> None:
    """A queue that was purged is filled again by the sweep, when the clock says so."""
    clock = worker.freeze()
    batch = filled(worker, 1)
    worker.app.control.purge()
    clock.advance(minutes=9)
    assert worker.sweep().published == 0
    clock.advance(minutes=2)
    assert worker.sweep().published == 1
    worker.drain()
    assert batch.status == "complete"


def test_pruning(worker: InProcessWorker) -> None:
    """What is old by the clock is pruned."""
    clock = worker.freeze()
    batch = filled(worker, 1)
    worker.drain()
    for days, number in ((29, 0), (2, 1)):
        clock.advance(days=days)
        assert runtime.runtime_of(worker.app).prune(30 * 86400) == number
    assert Batch.list() == []
    assert batch.id


def test_nothing_to_die_with(worker: InProcessWorker) -> None:
    """A worker dies with a job, or the test means something else: what waits, stays."""
    with pytest.raises(BlockMisuse, match="nothing waits: enroll one first"):
        worker.die()
    worker.app.tasks["shop.note"].delay(1)
    with pytest.raises(BlockMisuse, match=r"and what waits is shop\.note: enroll one first"):
        worker.die()
    assert len(worker.drain()) == 1
    filled(worker, 1).cancel()
    with pytest.raises(BlockMisuse, match=r"drops this message of job \S+, which was cancelled or sent again"):
        worker.die()


def test_an_app_without_flows() -> None:
    """It is no app for a worker."""
    with pytest.raises(Exception, match="has no Flows"):
        InProcessWorker(Celery("other", set_as_current=False))
