"""Two connections at once: let one hold a lock, and see that the other waits for it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from celery_flows.store.database import Connection, Database

T = TypeVar("T")

#: Runs a test on the databases with row locks and many writers at once; SQLite has one lock and one writer.
on_servers = pytest.mark.parametrize("database_kind", ["postgresql", "mariadb"], indirect=True)

#: Runs a test on PostgreSQL.
on_postgresql = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)

#: Runs a test where a statement can't do what two can: on all but PostgreSQL.
on_others = pytest.mark.parametrize("database_kind", ["sqlite", "mariadb"], indirect=True)

#: Runs a test on SQLite.
on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

#: Seconds after which something that should happen is held not to happen.
DEADLINE = 30.0

#: What a thread of `beside` does at its end: close what is its own.
leaving: list[Callable[[], object]] = []


def wait_until(holds: Callable[[], bool], what: str, every: float = 0.005) -> None:
    """Wait for a condition, looking every so many seconds."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come about in {DEADLINE:g} s")
        time.sleep(every)


def innodb_waiters(connection: Connection) -> set[int]:
    """Which connections to the server wait for a lock, as MariaDB numbers them.

    The tables in information_schema tell the same to everybody for as long as somebody asks them again within a
    tenth of a second; this is never behind.
    """
    status = str(connection.exec_driver_sql("SHOW ENGINE INNODB STATUS").one()[2])
    waiting = [one for one in status.split("---TRANSACTION")[1:] if "LOCK WAIT" in one]
    return {int(found[1]) for one in waiting if (found := re.search(r"thread id (\d+)\b", one))}


def _waiters(connection: Connection) -> int:
    if connection.dialect.name == "postgresql":
        waiting = "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return connection.exec_driver_sql(f"SELECT count(*) FROM pg_stat_activity {waiting}").scalar_one()
    ours = connection.exec_driver_sql("SELECT id FROM information_schema.processlist WHERE db = database()")
    return len(innodb_waiters(connection).intersection(ours.scalars()))


def wait_for_waiter(database: Database, number: int = 1) -> None:
    """Wait until so many transactions wait for a lock."""
    # On a connection of its own: a transaction that is open here may be told the same until it ends.
    with naive(database) as connection:

        def is_waiting() -> bool:
            found = _waiters(connection)
            connection.rollback()
            return found >= number

        wait_until(is_waiting, f"{number} transactions waiting for a lock")


def beside(work: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """Do something in a thread of its own; its result is read with a deadline."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        finally:
            for leave in leaving:
                leave()

    threading.Thread(target=run, daemon=True).start()
    return future


def outcome(future: Future[T]) -> T:
    """The result of what was done beside."""
    return future.result(DEADLINE)


@contextmanager
def opened(database: Database) -> Iterator[Connection]:
    """A transaction of the database's own that holds its locks until the end of the block."""
    transaction = database.begin()
    try:
        yield transaction.connection
        transaction.commit()
    finally:
        transaction.roll_back()


@contextmanager
def naive(database: Database, isolation: str = "READ COMMITTED") -> Iterator[Connection]:
    """A transaction as one writes it without knowing better; what is not committed inside is rolled back."""
    engine = sa.create_engine(database.url, poolclass=sa.NullPool)
    if database.dialect != "sqlite":
        engine = engine.execution_options(isolation_level=isolation)
    with engine.connect() as connection:
        yield connection
