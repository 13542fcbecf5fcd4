"""Claim a delivered job: ready, queued or retrying -> running."""

from __future__ import annotations

from celery_flows.store import jobs
from celery_flows.store.database import Database


def claim(database: Database, job_id: str, delivery: int, token: str) -> int | None:
    """Take a job for one delivery of its message.

    Args:
        delivery: the number in the message; only the latest publish may claim.
        token: names this delivery; a claim repeated with it succeeds again, with the same attempt.

    Returns:
        Which attempt this is, from 1, or None: the message is a duplicate or out of date.
    """
    _, rows = database.run(jobs.claim, at_id=job_id, at_delivery=delivery, at_token=token)
    return int(rows[0][0]) if rows else None
