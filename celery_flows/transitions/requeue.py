"""Give a running job back: running -> queued (the broker brings it again) or retrying (it is run again here)."""

from __future__ import annotations

from celery_flows.states import JobState
from celery_flows.store import jobs
from celery_flows.store.database import Database


def requeue(database: Database, job_id: str, delivery: int, token: str, *, to: JobState = JobState.QUEUED) -> None:
    """End a claim without an outcome: the same message will claim the job again."""
    database.run(jobs.requeue, at_id=job_id, at_delivery=delivery, at_token=token, to_state=str(to))
