"""Batches as they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery_flows.codec import decode
from celery_flows.errors import BatchNotFound
from celery_flows.shown.snapshot import Snapshot
from celery_flows.states import BatchState
from celery_flows.store import lists
from celery_flows.store.database import Connection, Database


@dataclass(frozen=True)
class BatchRecord(Snapshot):
    """A batch's row at one moment; times are aware, in UTC."""

    id: str
    kind: str
    state: BatchState
    description: str | None
    context: Any
    tags: list[str]
    tolerate: str
    on_loss: str | None
    round: int
    parent_id: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    settled_at: datetime | None
    #: Of a flow: its class, by module and name.
    flow: str | None
    #: What the user calls it, among unfinished ones.
    batch_key: str | None


def batch(database: Database, batch_id: str, connection: Connection | None = None) -> BatchRecord:
    """Read one batch.

    Args:
        connection: reads there rather than on a connection of our own, for a batch not committed yet.

    Raises:
        BatchNotFound: there is no such batch.
    """
    if connection is not None:
        row = lists.batch(connection, database.tables, batch_id)
    else:
        with database.reading() as own:
            row = lists.batch(own, database.tables, batch_id)
    if row is None:
        raise BatchNotFound(batch_id=batch_id)
    return _record(row)


def batches(
    database: Database,
    *,
    state: BatchState | None = None,
    kind: str | None = None,
    since: datetime | None = None,
    tag: str | None = None,
    limit: int = 100,
) -> list[BatchRecord]:
    """Read the newest batches that fit, newest first."""
    with database.reading() as connection:
        rows = lists.batches(
            connection, database.tables, state=state, kind=kind, since=since, tag=tag, limit=limit
        )
    return [_record(row) for row in rows]


def _record(row: Any) -> BatchRecord:
    values = row._asdict()
    values.update(state=BatchState(row.state), context=decode(row.context), tags=decode(row.tags) or [])
    return BatchRecord(**values)
