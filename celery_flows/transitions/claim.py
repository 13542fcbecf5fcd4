"""Claim a delivered job: ready, queued or retrying -> running."""

from __future__ import annotations

from typing import NamedTuple

from celery_flows.store import jobs
from celery_flows.store.database import Database


class Holder(NamedTuple):
    """Who will run the job, and how it was delivered: what decides if the holder dies."""

    #: The worker process whose lease must be alive; None outside of workers.
    worker_id: str | None = None
    #: How long a lease lasts, in seconds.
    lease: float = 0.0
    #: Whether the message is acknowledged only after the job ran.
    is_late: bool = False
    #: What the task says of losses, "fail" or "retry".
    on_loss: str | None = None


NOBODY = Holder()


def claim(database: Database, job_id: str, delivery: int, token: str, holder: Holder = NOBODY) -> int | None:
    """Take a job for one delivery of its message.

    Args:
        delivery: the number in the message; only the latest publish may claim.
        token: names this delivery; a claim repeated with it succeeds again, with the same attempt.
        holder: who takes it.

    Returns:
        Which attempt this is, from 1, or None: the message is a duplicate or out of date, or the holder's
        lease has run out.
    """
    _, rows = database.run(
        jobs.claim,
        at_id=job_id,
        at_delivery=delivery,
        at_token=token,
        at_worker=holder.worker_id,
        at_lease=holder.lease,
        to_late=int(holder.is_late),
        to_on_loss=holder.on_loss,
    )
    return int(rows[0][0]) if rows else None


def may_claim_later(database: Database, job_id: str, delivery: int) -> bool:
    """Whether a claim that was refused was refused for the holder's lease alone."""
    with database.reading() as connection:
        return jobs.is_claimable(connection, database.tables, job_id, delivery)
