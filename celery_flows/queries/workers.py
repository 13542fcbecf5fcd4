"""Workers as they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celery_flows.store import leases
from celery_flows.store.database import Database


@dataclass(frozen=True)
class WorkerRecord:
    """A process that has a lease: a worker, or a producer with a streaming block."""

    id: str
    hostname: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    #: Seconds for which it is up, and since it was heard of, by the database's clock.
    up: float
    silence: float
    #: Jobs that it runs.
    jobs: int


def workers(database: Database) -> list[WorkerRecord]:
    """All of them, by host."""
    with database.reading() as connection:
        rows = leases.every(connection, database.tables)
    return [
        WorkerRecord(
            id=row.id,
            hostname=row.hostname,
            pid=row.pid,
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
            up=(row.now - row.started_at).total_seconds(),
            silence=(row.now - row.heartbeat_at).total_seconds(),
            jobs=row.jobs,
        )
        for row in rows
    ]
