"""The job that the running task is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from celery import _state

from celery_flows.batch import Batch
from celery_flows.messaging import effects
from celery_flows.messaging.claims import Claim, current_claim
from celery_flows.messaging.runtime import Runtime
from celery_flows.store.database import Connection


@dataclass(frozen=True)
class Job:
    """A job that is being run."""

    #: Celery's task id.
    id: str
    #: Which attempt this is, from 1: retries and redeliveries count.
    attempt: int
    #: The batch that it belongs to; in a callback, the batch that it announces.
    batch: Batch = field(repr=False)
    _claim: Claim = field(repr=False)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a database transaction that commits together with the job's outcome, when the task returns.

        What is written on its connection happens exactly once: an error, a retry, or another worker that has
        taken the job meanwhile rolls it back. Leaving the block does not end the transaction; an error that
        leaves the block does. On SQLite nobody else can write until the task returns.

        Returns:
            A SQLAlchemy Connection. Don't commit on it.
        """
        with effects.transaction(_state.get_current_worker_task().request, self._claim) as connection:
            yield connection


def current_job() -> Job | None:
    """The job that the running task is, or None outside a batch. Bound tasks have it as `self.job`."""
    claim = current_claim()
    if claim is None:
        return None
    delivery = claim.delivery
    batch = _batch(claim.runtime, delivery.batch_id or delivery.announces_id)
    return Job(delivery.job_id, claim.attempt, batch, claim)


def _batch(runtime: Runtime, batch_id: str | None) -> Batch:
    assert batch_id is not None, "a job belongs to a batch or announces one"
    return Batch(batch_id, runtime)
