"""What is said to the database to forget batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, delete, exists, func, or_, select

from celery_flows.states import BatchState
from celery_flows.store.batches import standing
from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago


def prunable(
    connection: Connection, tables: Tables, age: float, states: Sequence[BatchState], limit: int
) -> list[str]:
    """Batches finished so `age` seconds ago that nothing waits for: no callback, no parent that still stands.

    What was inside of one that is gone goes too, whatever became of it.
    """
    found = _prunable(tables, age, states).order_by(tables.batches.c.settled_at).limit(limit)
    return list(connection.scalars(found))


def count(connection: Connection, tables: Tables, age: float, states: Sequence[BatchState]) -> int:
    """How many batches those are."""
    found = _prunable(tables, age, states).subquery("prunable")
    return connection.scalar(select(func.count()).select_from(found)) or 0


def _prunable(tables: Tables, age: float, states: Sequence[BatchState]) -> Select[Any]:
    batches, jobs = tables.batches, tables.jobs
    parent = batches.alias("parent")
    callback = exists().where(jobs.c.announces_id == batches.c.id, jobs.c.outcome.is_(None))
    is_top = batches.c.parent_id.is_(None) & one_of(batches.c.state, states)
    is_left = batches.c.parent_id.is_not(None) & ~exists().where(parent.c.id == batches.c.parent_id)
    is_old = batches.c.settled_at <= seconds_ago(age)
    return select(batches.c.id).where(is_old, or_(is_top, is_left), ~callback)


def delete_jobs(connection: Connection, tables: Tables, batch_id: str, limit: int) -> int:
    """Delete some of a batch's jobs and callbacks, unless it was opened again; say how many."""
    if not _is_finished(connection, tables, batch_id):
        return 0
    jobs = tables.jobs
    mine = or_(jobs.c.batch_id == batch_id, jobs.c.announces_id == batch_id)
    ids = list(connection.scalars(select(jobs.c.id).where(mine).order_by(jobs.c.id).limit(limit)))
    if ids:
        connection.execute(delete(tables.edges).where(tables.edges.c.job_id.in_(ids)))
        connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
    return len(ids)


def delete_batch(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Delete a batch's own row and its tallies, unless it was opened again; say whether."""
    if not _is_finished(connection, tables, batch_id):
        return False
    connection.execute(delete(tables.tallies).where(tables.tallies.c.batch_id == batch_id))
    connection.execute(delete(tables.memory).where(tables.memory.c.run_id == batch_id))
    connection.execute(delete(tables.batches).where(tables.batches.c.id == batch_id))
    return True


def _is_finished(connection: Connection, tables: Tables, batch_id: str) -> bool:
    # Under its lock, which who opens it again takes too.
    batch = standing(connection, tables, batch_id, "exclusive")
    return batch is not None and batch.is_finished
