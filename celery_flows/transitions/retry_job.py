"""Retry a job: running -> retrying, or ready, with the message of its next attempt written first."""

from __future__ import annotations

from typing import NamedTuple

from celery_flows.codec import seal
from celery_flows.states import JobState
from celery_flows.store import jobs
from celery_flows.store.database import Connection, Database
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.cancel import end_if_cancelled
from celery_flows.transitions.finalize import advance


class NextAttempt(NamedTuple):
    """The call that a running job sends under its own id; texts are as they are stored."""

    id: str
    delivery: int
    token: str
    task: str
    args: str
    kwargs: str
    options: str
    #: What the job is until it is claimed again: retrying or ready.
    state: str = JobState.RETRYING


def retry_job(database: Database, attempt: NextAttempt) -> list[ReadyJob]:
    """Write the next attempt down before it is published.

    Were it published first, a fast worker would meet the row still running, drop the message as a
    duplicate, and the job would never end.

    Returns:
        The job to publish; nothing where the claim is no longer the caller's. Where the batch was cancelled
        meanwhile, the job ends instead, and callbacks may become ready.
    """
    # This statement goes straight to the driver, around the column types, which seal otherwise.
    codec = database.tables.codec
    database.run(
        jobs.retry,
        at_id=attempt.id,
        at_delivery=attempt.delivery,
        at_token=attempt.token,
        to_task=attempt.task,
        to_args=seal(codec, attempt.args),
        to_kwargs=seal(codec, attempt.kwargs),
        to_options=seal(codec, attempt.options),
        to_state=str(attempt.state),
    )
    # Read, rather than count the rows: the statement may have run twice over a lost connection.
    ready, ended_in = database.transact(_written, database.tables, attempt)
    return ready if ended_in is None else advance(database, ended_in)


def _written(connection: Connection, tables: Tables, attempt: NextAttempt) -> tuple[list[ReadyJob], str | None]:
    row = jobs.find(connection, tables, attempt.id)
    if row is None or row.state != attempt.state or row.delivery != attempt.delivery + 1:
        return [], None
    if row.batch_id is not None and end_if_cancelled(connection, tables, row.id, row.batch_id):
        return [], row.batch_id
    return [ReadyJob(*(getattr(row, name) for name in ReadyJob._fields))], None
