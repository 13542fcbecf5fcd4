"""What is said to the database about flows inside flows, which are planned when their turn comes."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, select, update

from celery_flows.states import BatchState, JobState
from celery_flows.store.rerunning import has_edge, has_open_edge
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow


class Waiting(NamedTuple):
    """A job of a flow that waits for nothing but its turn."""

    id: str
    kind: str
    #: Whether it has waited for others, and must be judged by how they ended.
    has_edges: bool


def waiting(connection: Connection, tables: Tables, batch_id: str) -> list[Waiting]:
    """What waits in a flow for nothing but its turn."""
    jobs = tables.jobs
    mine = (jobs.c.batch_id == batch_id) & (jobs.c.state == JobState.WAITING) & ~has_open_edge(tables)
    statement = select(jobs.c.id, jobs.c.kind, has_edge(tables)).where(mine).order_by(jobs.c.id)
    return [Waiting(row[0], row[1], bool(row[2])) for row in connection.execute(statement)]


def end_unbegun(connection: Connection, tables: Tables, batch_id: str) -> None:
    """End a flow whose turn will not come, with its planning, its callbacks and the flows in it."""
    for child_id in unbegun(connection, tables, batch_id):
        end_unbegun(connection, tables, child_id)
    jobs, batches = tables.jobs, tables.batches
    mine = (jobs.c.batch_id == batch_id) | (jobs.c.announces_id == batch_id)
    skipped = update(jobs).where(mine, jobs.c.state == JobState.WAITING)
    connection.execute(skipped.values(state=JobState.SKIPPED, ended_at=utcnow()))
    ended = update(batches).where(batches.c.id == batch_id, batches.c.started_at.is_(None))
    values = {"state": BatchState.CANCELLED, "completed_at": utcnow(), "settled_at": utcnow(), "open_key": None}
    connection.execute(ended.values(values))


def unbegun(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """The flows inside a batch whose turn has not come, locked, so that it does not come meanwhile."""
    jobs, batches = tables.jobs, tables.batches
    statement = (
        select(jobs.c.id)
        .join(batches, batches.c.id == jobs.c.id)
        .where(jobs.c.batch_id == batch_id, jobs.c.state == JobState.WAITING, batches.c.flow.is_not(None))
        .where(batches.c.started_at.is_(None))
    )
    return list(connection.scalars(statement.order_by(jobs.c.id).with_for_update()))
