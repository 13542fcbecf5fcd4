"""Prune: forget batches that were finished long ago."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from celery_flows.errors import InvalidSetting
from celery_flows.states import BatchState
from celery_flows.store import pruning
from celery_flows.store.database import Database

#: Rows deleted in one transaction, so that none lasts long.
_CHUNK: Final = 1000


#: How a batch may have ended.
FATES: Final = (BatchState.COMPLETE, BatchState.FAILED, BatchState.CANCELLED)


def fates_of(states: Iterable[str]) -> list[BatchState]:
    """Read what a user wrote.

    Raises:
        InvalidSetting: one of them is none in which a batch ends.
    """
    given = [states] if isinstance(states, str) else list(states)
    for state in given:
        if state not in FATES:
            raise InvalidSetting(name="states", value=state, allowed='"complete", "failed" or "cancelled"')
    return [BatchState(state) for state in given]


def count_prunable(database: Database, age: float, states: Sequence[BatchState] = FATES) -> int:
    """How many batches may go, what is inside of them not counted."""
    with database.reading() as connection:
        return pruning.count(connection, database.tables, age, states)


def prune(
    database: Database,
    age: float,
    states: Sequence[BatchState] = FATES,
    *,
    at_most: int | None = None,
    forget: Callable[[str], None] | None = None,
) -> int:
    """Delete finished batches with their jobs and callbacks.

    Never one that is unfinished or has callbacks still to run, nor one whose parent is still there: a
    tree goes from its top, whatever became of what is in it. A batch's own row goes last, so that a crash leaves
    work for the next time rather than rows that nobody finds. One that is retried at this moment is left alone,
    with what it has left.

    Args:
        age: seconds since a batch was finished.
        states: how those ended that are deleted.
        at_most: no more batches than that; None: all.
        forget: called with the id of each that is gone, for what is kept of it elsewhere.

    Returns:
        How many batches were deleted.
    """
    pruned, left = 0, at_most
    while found := database.transact(pruning.prunable, database.tables, age, states, min(_CHUNK, left or _CHUNK)):
        pruned += sum(_delete(database, batch_id, forget) for batch_id in found)
        left = None if left is None else left - len(found)
        if left is not None and left <= 0:
            break
    return pruned


def _delete(database: Database, batch_id: str, forget: Callable[[str], None] | None) -> bool:
    while database.transact(pruning.delete_jobs, database.tables, batch_id, _CHUNK):
        pass
    is_gone = database.transact(pruning.delete_batch, database.tables, batch_id)
    if is_gone and forget is not None:
        forget(batch_id)
    return is_gone
