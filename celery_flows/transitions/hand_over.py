"""Hand a job over to the canvas that replaces it: running -> retrying, under the next delivery number."""

from __future__ import annotations

from celery_flows.store import jobs
from celery_flows.store.database import Database


def hand_over(database: Database, job_id: str, delivery: int, token: str) -> None:
    """End the claim without an outcome; the message that claims next is Celery's to bring."""
    database.run(jobs.hand_over, at_id=job_id, at_delivery=delivery, at_token=token)
