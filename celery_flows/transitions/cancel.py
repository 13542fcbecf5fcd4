"""Cancel a batch, and the batches inside it: what has not started ends, what runs may finish."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from celery_flows.errors import BatchNotFound
from celery_flows.states import BatchState, JobState
from celery_flows.store import batches, cancelling, jobs, nested
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.finalize import advance


class Cancelled(NamedTuple):
    """What a cancel left to do."""

    #: Callbacks that became ready.
    ready: list[ReadyJob]
    #: Jobs that a worker was running.
    running: list[str]


class _Step(NamedTuple):
    running: list[str]
    children: list[str]


def cancel(database: Database, batch_id: str) -> Cancelled:
    """Cancel from the top, one transaction per batch, then finish from the bottom.

    Of a batch that is finished nothing changes; one that has failed already stays failed, without the
    jobs that had not started.

    Raises:
        BatchNotFound: there is no such batch.
    """
    waiting, seen, running = deque([batch_id]), list[str](), list[str]()
    while waiting:
        current = waiting.popleft()
        step = database.transact(_cancel, database.tables, current)
        seen.append(current)
        running += step.running
        waiting += step.children
    return Cancelled([job for current in reversed(seen) for job in advance(database, current)], running)


def _cancel(connection: Connection, tables: Tables, batch_id: str) -> _Step:
    # Held to the end: were it finished and retried meanwhile, the jobs of its new round would be ended below.
    batch = batches.standing(connection, tables, batch_id, "exclusive")
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    if batch.is_finished:
        return _Step([], [])
    if batch.is_undecided:
        batches.decide(connection, tables, batch_id, BatchState.CANCELLED)
    # A batch that waits for its first block waits no more, or it would never be finished.
    batches.start(connection, tables, batch_id)
    unbegun = nested.unbegun(connection, tables, batch_id)
    for child_id in unbegun:
        nested.end_unbegun(connection, tables, child_id)
    cancelling.end_unstarted(connection, tables, batch_id, unbegun)
    return _Step(
        cancelling.running(connection, tables, batch_id),
        cancelling.unfinished_children(connection, tables, batch_id),
    )


def end_if_cancelled(connection: Connection, tables: Tables, job_id: str, batch_id: str) -> bool:
    """End a job that was running and is to run again, where its batch was cancelled meanwhile; say whether.

    Under the batch's lock, after the job's row says that it is to run again: so either the cancel finds
    it so, or this finds the batch cancelled.
    """
    batch = batches.standing(connection, tables, batch_id, "shared")
    if batch is None or batch.state is not BatchState.CANCELLED:
        return False
    return jobs.end(connection, tables, Ending(job_id, JobState.CANCELLED, error_message="batch cancelled"))
