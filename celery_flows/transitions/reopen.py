"""Retry a finished batch: a new round, in which jobs run again and callbacks fire again."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from celery_flows.errors import BatchNotFound, BatchUnfinished
from celery_flows.ids import new_id
from celery_flows.states import BatchState, JobState
from celery_flows.store import batches, jobs, reopening, tallies
from celery_flows.store.batches import BatchStanding
from celery_flows.store.database import Connection, Database
from celery_flows.store.reopening import ChildStanding
from celery_flows.store.tables import Tables
from celery_flows.tolerance import Tolerance
from celery_flows.transitions.finalize import count_wrong


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
    # Children before parents, as everywhere.
    held = {one: _hold(connection, tables, one) for one in [*reversed(below), batch_id]}
    if not held[batch_id].is_finished:
        raise BatchUnfinished(batch_id=batch_id, state=str(held[batch_id].state))
    # A child may have been opened again on its own before it was held.
    again = [one for one in [batch_id, *below] if held[one].is_finished]
    for one in again:
        reopening.undo(connection, tables, one, OUTCOMES[mode])
        _start_round(connection, tables, held[one])
    for one in again:
        _follow_children(connection, tables, one, _children(connection, tables, one))
    _reopen_above(connection, tables, held[batch_id])
    return again


def _below(connection: Connection, tables: Tables, batch_id: str, mode: Mode) -> list[str]:
    """The children that run again, and theirs, parents first."""
    states = list(BatchState) if mode is Mode.ALL else [BatchState.FAILED, BatchState.CANCELLED]
    found, waiting = list[str](), [batch_id]
    while waiting:
        children = reopening.finished_children(connection, tables, waiting.pop(), states)
        found += children
        waiting += children
    return found


def _hold(connection: Connection, tables: Tables, batch_id: str) -> BatchStanding:
    batch = batches.standing(connection, tables, batch_id, "exclusive")
    if batch is None:
        raise BatchNotFound(batch_id=batch_id)
    return batch


def _reopen_above(connection: Connection, tables: Tables, child: BatchStanding) -> None:
    """Let the parent wait for its child again, and so on up, as long as a parent had failed by it.

    A parent that is not over just waits. One that tolerated the child, or would have failed without it, stays
    as it is: what its callbacks said is still true.
    """
    while child.parent_id is not None:
        parent = batches.standing(connection, tables, child.parent_id, "exclusive")
        if parent is None:
            return
        if not parent.is_finished:
            if reopening.wait_for_child(connection, tables, child.id):
                count_wrong(connection, tables, parent.id, by=-1)
            return
        children = _children(connection, tables, parent.id)
        if parent.state is not BatchState.FAILED or _is_still_too_much(connection, tables, parent, children):
            return
        _next_round(connection, tables, parent)
        _follow_children(connection, tables, parent.id, children)
        child = parent


def _children(connection: Connection, tables: Tables, batch_id: str) -> list[ChildStanding]:
    return reopening.children(connection, tables, batch_id)


def _is_still_too_much(
    connection: Connection, tables: Tables, batch: BatchStanding, children: Sequence[ChildStanding]
) -> bool:
    """Whether a batch would have failed as its children stand now."""
    if jobs.has_abandoned_block(connection, tables, batch.id):
        return True
    wrong = reopening.wrong_tasks(connection, tables, batch.id) + sum(child.is_wrong for child in children)
    total, _ = tallies.read(connection, tables, batch.id)
    return wrong > Tolerance.parse(batch.tolerate).limit(total)


def _follow_children(
    connection: Connection, tables: Tables, batch_id: str, children: Sequence[ChildStanding]
) -> None:
    """Let the rows of a reopened batch's children say how these stand now, and count what is wrong anew."""
    for child in children:
        if child.is_over:
            reopening.restate_child(connection, tables, child)
        else:
            reopening.wait_for_child(connection, tables, child.id, is_wrong=child.is_wrong)
    tallies.forget_wrong(connection, tables, batch_id)
    wrong = reopening.wrong_tasks(connection, tables, batch_id) + sum(child.is_wrong for child in children)
    if wrong:
        count_wrong(connection, tables, batch_id, by=wrong)


def _start_round(connection: Connection, tables: Tables, batch: BatchStanding) -> None:
    reopening.forgive(connection, tables, batch.id)
    _next_round(connection, tables, batch)


def _next_round(connection: Connection, tables: Tables, batch: BatchStanding) -> None:
    reopening.start_round(connection, tables, batch.id)
    for callback in reopening.callbacks(connection, tables, batch.id, batch.round):
        reopening.repeat_callback(connection, tables, callback, new_id(), batch.round + 1)
