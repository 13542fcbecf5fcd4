"""Retry a finished batch: a new round, in which jobs run again and callbacks fire again."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from celery_flows.errors import BatchNotFound, BatchUnfinished
from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import batches, reopening, tallies
from celery_flows.store.batches import BatchStanding
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables


class Mode(StrEnum):
    """Which jobs run again."""

    FAILED = "failed"
    FAILED_AND_DOWNSTREAM = "failed+downstream"
    ALL = "all"


#: The outcomes that each mode undoes. A skipped job is one that waited for something that failed.
OUTCOMES: dict[Mode, Sequence[JobState]] = {
    Mode.FAILED: (JobState.FAILED, JobState.CANCELLED),
    Mode.FAILED_AND_DOWNSTREAM: (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED),
    Mode.ALL: (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.COMPLETE),
}


def reopen(database: Database, batch_id: str, mode: Mode) -> list[str]:
    """Open a new round of a batch, of its children that went wrong, and of the ancestors that failed by it.

    One transaction, so that no child can finish before its parent waits for it again.

    Returns:
        The batches whose ready jobs are to be published.

    Raises:
        BatchNotFound: there is no such batch.
        BatchUnfinished: it is not finished, so its round is not over.
    """
    return database.transact(_reopen, database.tables, batch_id, mode)


def _reopen(connection: Connection, tables: Tables, batch_id: str, mode: Mode) -> list[str]:
    below = _below(connection, tables, batch_id, mode)
    above = _above(connection, tables, batch_id)
    # Children before parents, as everywhere.
    held = {one: _hold(connection, tables, one) for one in [*reversed(below), batch_id, *above]}
    if not held[batch_id].is_finished:
        raise BatchUnfinished(batch_id=batch_id, state=str(held[batch_id].state))
    for one in [batch_id, *below]:
        reopening.undo(connection, tables, one, OUTCOMES[mode])
        _start_round(connection, tables, held[one])
    # Where the parent tolerated it and is complete, it is not opened again for this.
    for child_id in [*below, batch_id] if above else below:
        reopening.wait_for_child(connection, tables, child_id)
    for one in above:
        _take_back(connection, tables, held[one])
    return [batch_id, *below]


def _below(connection: Connection, tables: Tables, batch_id: str, mode: Mode) -> list[str]:
    """The children that run again, and theirs, parents first."""
    states = list(BatchState) if mode is Mode.ALL else [BatchState.FAILED, BatchState.CANCELLED]
    found, waiting = list[str](), [batch_id]
    while waiting:
        children = reopening.children(connection, tables, waiting.pop(), states)
        found += children
        waiting += children
    return found


def _above(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """The parent and its parents, up to the first that did not fail; a child's end is news to that one too."""
    found: list[str] = []
    batch = batches.standing(connection, tables, batch_id)
    while batch is not None and batch.parent_id is not None:
        batch = batches.standing(connection, tables, batch.parent_id)
        if batch is None or (batch.is_finished and batch.state is not BatchState.FAILED):
            break
        found.append(batch.id)
        if batch.state is not BatchState.FAILED:
            break
    return found


def _hold(connection: Connection, tables: Tables, batch_id: str) -> BatchStanding:
    batch = batches.standing(connection, tables, batch_id, "exclusive")
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    return batch


def _start_round(connection: Connection, tables: Tables, batch: BatchStanding) -> None:
    tallies.forget_wrong(connection, tables, batch.id)
    _next_round(connection, tables, batch)


def _take_back(connection: Connection, tables: Tables, batch: BatchStanding) -> None:
    """Undo what a child's failure did to a batch."""
    tallies.add_if_kept(connection, tables, batch.id, wrong=-1)
    if batch.state is BatchState.FAILED:
        reopening.wait_for_child(connection, tables, batch.id)
        _next_round(connection, tables, batch)


def _next_round(connection: Connection, tables: Tables, batch: BatchStanding) -> None:
    reopening.start_round(connection, tables, batch.id)
    for callback in reopening.callbacks(connection, tables, batch.id, batch.round):
        reopening.repeat_callback(connection, tables, callback, new_id(), batch.round + 1)
