"""What is asked of a database to see whether it, and what is in it, is well."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, text

from celery_flows.states import MESSAGES, JobState
from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow
from celery_flows.store.workers import SWEEP


def version(connection: Connection) -> str:
    """The server's version, as it says it itself."""
    name = func.sqlite_version() if connection.dialect.name == "sqlite" else func.version()
    return str(connection.scalar(select(name)))


def now(connection: Connection) -> datetime:
    """The moment, by the database's clock."""
    found: datetime = connection.execute(select(utcnow())).scalar_one()
    return found


def isolation(connection: Connection) -> str:
    """At which level the transaction is that is open, in capitals; of SQLite its journal mode, which decides."""
    if connection.dialect.name == "postgresql":
        return str(connection.scalar(text("SHOW transaction_isolation"))).upper()
    if connection.dialect.name == "sqlite":
        return str(connection.scalar(text("PRAGMA journal_mode"))).upper()
    # By the older of two names where the server does not know the newer one.
    found = variables(connection, "SESSION", "transaction_isolation", "tx_isolation")
    return next(iter(found.values()), "").replace("-", " ").upper()


def default_isolation(connection: Connection) -> str | None:
    """At which level transactions are where nobody says it."""
    if connection.dialect.name == "postgresql":
        return str(connection.scalar(text("SHOW default_transaction_isolation"))).upper()
    if connection.dialect.name == "sqlite":
        return None
    found = variables(connection, "GLOBAL", "transaction_isolation", "tx_isolation")
    return next(iter(found.values()), "").replace("-", " ").upper()


def is_read_only(connection: Connection) -> bool:
    """Whether it takes nothing new: a standby, or one that is kept from it."""
    if connection.dialect.name == "postgresql":
        return str(connection.scalar(text("SHOW transaction_read_only"))) == "on"
    if connection.dialect.name == "sqlite":
        return False
    return variables(connection, "GLOBAL", "read_only").get("read_only") == "ON"


def logs_statements(connection: Connection) -> bool:
    """Whether MySQL keeps a log of statements, which it can't at our isolation level."""
    if connection.dialect.name in ("postgresql", "sqlite"):
        return False
    found = variables(connection, "GLOBAL", "log_bin", "binlog_format")
    return (found.get("log_bin"), found.get("binlog_format")) == ("ON", "STATEMENT")


def variables(connection: Connection, scope: str, *names: str) -> dict[str, str]:
    """Variables of MySQL's or MariaDB's that there are, by name."""
    wanted = ", ".join(f"'{name}'" for name in names)
    rows = connection.execute(text(f"SHOW {scope} VARIABLES WHERE Variable_name IN ({wanted})"))
    return {row[0]: str(row[1]).upper() for row in rows}


def swept_at(connection: Connection, tables: Tables) -> datetime | None:
    """When the last pass of the sweep began."""
    workers = tables.workers
    found: datetime | None = connection.scalar(select(workers.c.heartbeat_at).where(workers.c.id == SWEEP))
    return found


def unfinished_batches(connection: Connection, tables: Tables) -> int:
    """How many batches are not finished, or were only made."""
    batches = tables.batches
    return connection.scalar(select(func.count()).where(batches.c.settled_at.is_(None))) or 0


def due(connection: Connection, tables: Tables, moment: str) -> Any:
    """How many jobs have something due (`publishing_since` or `releasing_since`), and since when the first has."""
    since = tables.jobs.c[moment]
    return connection.execute(select(func.count(), func.min(since)).where(since.is_not(None))).one()


def callbacks(connection: Connection, tables: Tables) -> Any:
    """How many callbacks whose event has come have not run, and since when the first is in its queue."""
    jobs = tables.jobs
    is_armed = (jobs.c.announces_id.is_not(None), jobs.c.outcome.is_(None), jobs.c.state != JobState.WAITING)
    is_idle = jobs.c.state != JobState.RUNNING
    statement = select(func.count(), func.min(func.coalesce(jobs.c.queued_at, jobs.c.publishing_since)))
    return connection.execute(statement.where(*is_armed, is_idle)).one()


def queues(connection: Connection, tables: Tables) -> Sequence[Any]:
    """By queue, how many jobs are in it that may run by now, and since when the first is; longest first."""
    jobs = tables.jobs
    is_queued = (jobs.c.queued_at.is_not(None), jobs.c.ended_at.is_(None), jobs.c.state == JobState.QUEUED)
    first = func.min(jobs.c.queued_at).label("since")
    statement = select(jobs.c.queue, func.count().label("jobs"), first).where(*is_queued)
    is_due = jobs.c.queued_at <= utcnow()
    return connection.execute(statement.where(is_due).group_by(jobs.c.queue).order_by(first)).all()


def tasks(connection: Connection, tables: Tables) -> Sequence[Any]:
    """By task, how many jobs of unfinished batches call it and have not ended; of callbacks the same."""
    jobs, batches = tables.jobs, tables.batches
    unfinished = select(batches.c.id).where(batches.c.settled_at.is_(None))
    counted = select(jobs.c.task, func.count().label("jobs")).group_by(jobs.c.task).order_by(jobs.c.task)
    # Two statements, each over an index of its own.
    mine = counted.where(jobs.c.batch_id.in_(unfinished), jobs.c.outcome.is_(None), one_of(jobs.c.kind, MESSAGES))
    told = counted.where(jobs.c.announces_id.is_not(None), jobs.c.outcome.is_(None))
    return [*connection.execute(mine), *connection.execute(told)]
