"""The adder's guard: the last statements of every transaction that adds to a batch."""

from __future__ import annotations

from celery_flows.errors import BatchCancelled, BatchFinished, BatchNotFound
from celery_flows.states import BatchState
from celery_flows.store import batches, jobs, tallies
from celery_flows.store.batches import BatchStanding
from celery_flows.store.database import Connection
from celery_flows.store.tables import Tables
from celery_flows.tolerance import Tolerance


def admit(connection: Connection, tables: Tables, batch_id: str, *, count: int, starts: bool) -> None:
    """Check, under the batch's lock, that what this transaction added may stay.

    Whoever finishes the batch takes the same lock exclusively and looks for unfinished jobs after that:
    so either it sees the rows added, or this check sees the batch finished.

    Args:
        count: how many jobs were added.
        starts: whether this may be the first block of the batch, with which it begins. Only then
            the row is written, so only then it is locked exclusively.

    Raises:
        BatchNotFound: there is no such batch.
        BatchFinished: it is finished.
        BatchCancelled: it is cancelled, and waits only for what runs.
    """
    batch = hold_unfinished(connection, tables, batch_id, "exclusive" if starts else "shared")
    if batch.state is BatchState.CANCELLED:
        raise BatchCancelled(batch_id=batch_id)
    if starts and not batch.has_begun:
        batches.start(connection, tables, batch_id)
        if batch.parent_id is not None:
            jobs.start_child(connection, tables, batch_id)
    if count and Tolerance.parse(batch.tolerate).is_share:
        tallies.add(connection, tables, batch_id, total=count)


def hold_unfinished(connection: Connection, tables: Tables, batch_id: str, lock: str) -> BatchStanding:
    """Lock a batch and see that it is unfinished.

    Raises:
        BatchNotFound: there is no such batch.
        BatchFinished: it is finished.
    """
    batch = batches.standing(connection, tables, batch_id, lock)
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    if batch.is_finished:
        raise BatchFinished(batch_id=batch_id, state=str(batch.state))
    return batch
