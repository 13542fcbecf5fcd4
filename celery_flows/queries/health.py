"""Whether the database, and what is in it, is well: facts, without a verdict."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from celery_flows.store import batches, health
from celery_flows.store.database import Connection, Database

#: Batches that are named where nobody has decided them, and seconds until they are looked at again.
_NAMED: Final = 5
_AGAIN: Final = 0.5


@dataclass(frozen=True)
class Server:
    """A database's server."""

    version: str
    #: Seconds that an answer takes.
    answer: float
    #: Seconds by which its clock is ahead of this machine's.
    ahead: float
    #: At which level our transactions are; of SQLite its journal mode.
    isolation: str
    #: At which they are where nobody says it; None: the question has no sense there.
    default_isolation: str | None
    is_read_only: bool
    #: Whether it keeps a log of statements that can't be kept at our level.
    logs_statements: bool


def server(database: Database) -> Server:
    """Look at the server."""
    with database.reading() as connection:
        version = health.version(connection)
        began, before = time.monotonic(), datetime.now(UTC)
        there = health.now(connection)
        answer = time.monotonic() - began
        return Server(
            version=version,
            answer=answer,
            ahead=(there - before - timedelta(seconds=answer / 2)).total_seconds(),
            isolation=database.transact(health.isolation),
            default_isolation=health.default_isolation(connection),
            is_read_only=health.is_read_only(connection),
            logs_statements=health.logs_statements(connection),
        )


@dataclass(frozen=True)
class Due:
    """How many there are of something, and for how many seconds the first has been due."""

    number: int
    seconds: float


@dataclass(frozen=True)
class Upkeep:
    """What is due, and whether anybody sees to it."""

    #: Seconds since the last sweep; None: there was none.
    swept: float | None
    unfinished: int
    #: Jobs that are to be published, jobs behind which others wait, callbacks that are to run.
    publishing: Due
    releasing: Due
    callbacks: Due
    #: By queue, jobs that wait in it; None: nobody knows in which.
    queues: dict[str | None, Due]
    #: Batches that have no job left, or have failed, and that nobody has decided: some of them.
    stranded: list[str]


def upkeep(database: Database) -> Upkeep:
    """Look at what is due."""
    tables = database.tables
    with database.reading() as connection:
        now, swept_at = health.now(connection), health.swept_at(connection, tables)
        found = health.queues(connection, tables)
        return Upkeep(
            swept=None if swept_at is None else (now - swept_at).total_seconds(),
            unfinished=health.unfinished_batches(connection, tables),
            publishing=_due(now, *health.due(connection, tables, "publishing_since")),
            releasing=_due(now, *health.due(connection, tables, "releasing_since")),
            callbacks=_due(now, *health.callbacks(connection, tables)),
            queues={row.queue: _due(now, row.jobs, row.since) for row in found},
            stranded=_stranded(connection, database),
        )


def _due(now: datetime, number: int, since: datetime | None) -> Due:
    return Due(number, 0.0 if since is None else max(0.0, (now - since).total_seconds()))


def _stranded(connection: Connection, database: Database) -> list[str]:
    found = batches.stranded(connection, database.tables, "", _NAMED)
    if found:
        # What is just being decided looks the same: it is looked at again.
        time.sleep(_AGAIN)
        later = set(batches.stranded(connection, database.tables, "", 10 * _NAMED))
        found = [one for one in found if one in later]
    return found


def tasks(database: Database) -> dict[str, int]:
    """The tasks that unfinished work calls, with how many jobs and callbacks do."""
    found = Counter[str]()
    with database.reading() as connection:
        for row in health.tasks(connection, database.tables):
            found[row.task] += row.jobs
    return dict(found)
