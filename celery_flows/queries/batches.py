"""Batches as they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from celery_flows.codec import decode, safe_text
from celery_flows.errors import BatchAmbiguous, BatchNotFound, JobGiven
from celery_flows.shown.snapshot import Snapshot
from celery_flows.states import BatchState
from celery_flows.store import lists
from celery_flows.store.database import Connection, Database
from celery_flows.store.lists import Wanted

#: Batches that are named where an id could be that of any of them.
_NAMED: Final = 5


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
    return wanted_batches(database, Wanted(state=state, kind=kind, since=since, tag=tag), limit)


def wanted_batches(database: Database, wanted: Wanted, limit: int) -> list[BatchRecord]:
    """Read the newest batches that are meant, newest first."""
    with database.reading() as connection:
        rows = lists.batches(connection, database.tables, wanted, limit)
    return [_record(row) for row in rows]


def children(database: Database, batch_id: str, limit: int) -> list[BatchRecord]:
    """Read the first children of a batch, in the order in which they were made."""
    with database.reading() as connection:
        rows = lists.children(connection, database.tables, batch_id, limit)
    return [_record(row) for row in rows]


def find_id(database: Database, prefix: str) -> str:
    """The id of the one batch whose id begins so.

    Raises:
        BatchNotFound: there is none, or nothing was said of it.
        JobGiven: it is a job's id, as logs have them.
        BatchAmbiguous: there are several.
    """
    wanted = safe_text(prefix).strip().lower()
    with database.reading() as connection:
        found = lists.ids_beginning(connection, database.tables, wanted, _NAMED + 1) if wanted else []
        of_job = None if found else lists.batch_of_job(connection, database.tables, safe_text(prefix).strip())
    if of_job is not None:
        raise JobGiven(job_id=prefix, batch_id=of_job)
    if not found:
        raise BatchNotFound(batch_id=prefix)
    if len(found) > 1:
        more = ["and more"] if len(found) > _NAMED else []
        raise BatchAmbiguous(prefix=prefix, candidates=", ".join([*found[:_NAMED], *more]))
    return found[0]


class Left(NamedTuple):
    """What a batch has to run beside its own jobs."""

    #: Children that are unfinished.
    children: int
    #: Callbacks whose event has come, and that have not ended.
    callbacks: int


def left(database: Database, batch_id: str) -> Left:
    """Count what is left beside its jobs."""
    with database.reading() as connection:
        row = lists.left(connection, database.tables, batch_id)
    return Left(row.children, row.callbacks)


def _record(row: Any) -> BatchRecord:
    values = row._asdict()
    values.update(state=BatchState(row.state), context=decode(row.context), tags=decode(row.tags) or [])
    return BatchRecord(**values)
