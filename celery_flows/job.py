"""The job that the running task is."""

from __future__ import annotations

from dataclasses import dataclass, field

from celery_flows.batch import Batch
from celery_flows.messaging.claims import current_claim
from celery_flows.messaging.runtime import Runtime


@dataclass(frozen=True)
class Job:
    """A job that is being run."""

    #: Celery's task id.
    id: str
    #: Which attempt this is, from 1: retries and redeliveries count.
    attempt: int
    #: The batch that it belongs to; in a callback, the batch that it announces.
    batch: Batch = field(repr=False)


def current_job() -> Job | None:
    """The job that the running task is, or None outside a batch. Bound tasks have it as `self.job`."""
    claim = current_claim()
    if claim is None:
        return None
    delivery = claim.delivery
    return Job(delivery.job_id, claim.attempt, _batch(claim.runtime, delivery.batch_id or delivery.announces_id))


def _batch(runtime: Runtime, batch_id: str | None) -> Batch:
    assert batch_id is not None, "a job belongs to a batch or announces one"
    return Batch(batch_id, runtime)
