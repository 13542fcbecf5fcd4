"""Prune: forget batches that were finished long ago."""

from __future__ import annotations

from typing import Final

from celery_flows.store import pruning
from celery_flows.store.database import Database

#: Rows deleted in one transaction, so that none lasts long.
_CHUNK: Final = 1000


def prune(database: Database, age: float) -> int:
    """Delete finished batches with their jobs and callbacks.

    Never one that is unfinished or has callbacks still to run, nor one whose parent is still there: a
    tree goes from its top. A batch's own row goes last, so that a crash leaves work for the next time
    rather than rows that nobody finds. One that is retried at this moment is left alone, with what it has left.

    Args:
        age: seconds since a batch was finished.

    Returns:
        How many batches were deleted.
    """
    pruned = 0
    while found := database.transact(pruning.prunable, database.tables, age, _CHUNK):
        for batch_id in found:
            while database.transact(pruning.delete_jobs, database.tables, batch_id, _CHUNK):
                pass
            pruned += database.transact(pruning.delete_batch, database.tables, batch_id)
    return pruned
