"""What each database is told at the beginning of a connection and of a transaction, and what it is spared."""

from __future__ import annotations

import sqlite3
import time
from typing import Any, Final

from celery_flows.store import forking


def _connect_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    with forking.at_work(cursor):
        # Wait for a writer rather than fail; readers and one writer side by side.
        cursor.execute("PRAGMA busy_timeout = 30000")
        _switch_to_wal(cursor, give_up_at=time.monotonic() + 30)
    cursor.close()


def _switch_to_wal(cursor: Any, give_up_at: float) -> None:
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # On a new file SQLite does not wait for another process that says the same.
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)


def _connect_mysql(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    cursor.close()


def _connect_postgresql(connection: Any, record: Any) -> None:
    """Nothing to say: each transaction names its isolation."""


#: What a new connection is told.
CONNECT: Final = {"sqlite": _connect_sqlite, "mysql": _connect_mysql, "postgresql": _connect_postgresql}
CONNECT["mariadb"] = _connect_mysql

#: How a transaction begins, with its isolation: READ COMMITTED, whatever the default is.
BEGIN: Final = {
    "sqlite": "BEGIN IMMEDIATE",
    "mysql": "BEGIN",
    "mariadb": "BEGIN",
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED",
}


def spare_rollbacks(dialect: Any, reading: set[int]) -> None:
    """Don't tell the server to roll back after single reads, as MySQL's drivers do without a transaction too."""
    do_rollback = dialect.do_rollback

    def rollback(connection: Any) -> None:
        # Also called with a bare driver's connection, when the pool makes or discards one.
        if id(getattr(connection, "dbapi_connection", connection)) not in reading:
            do_rollback(connection)

    dialect.do_rollback = rollback
