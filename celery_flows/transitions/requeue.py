"""Give a running job back: running -> queued (the broker brings it again) or retrying (it is run again here)."""

from __future__ import annotations

from celery_flows.states import JobState
from celery_flows.store import jobs
from celery_flows.store.database import Database
from celery_flows.store.publishing import ReadyJob
from celery_flows.transitions.cancel import end_if_cancelled
from celery_flows.transitions.finalize import advance


def requeue(
    database: Database,
    job_id: str,
    delivery: int,
    token: str,
    *,
    batch_id: str | None = None,
    to: JobState = JobState.QUEUED,
) -> list[ReadyJob]:
    """End a claim without an outcome: the same message will claim the job again.

    Returns:
        Callbacks that became ready, as the batch was cancelled meanwhile and the job has ended with this.
    """
    database.run(jobs.requeue, at_id=job_id, at_delivery=delivery, at_token=token, to_state=str(to))
    if batch_id is None or not database.transact(end_if_cancelled, database.tables, job_id, batch_id):
        return []
    return advance(database, batch_id)
