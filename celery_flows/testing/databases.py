"""Databases for tests: a new file of SQLite, or one that the user names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from celery_flows.errors import ConfigurationError
from celery_flows.store import emptying, schema
from celery_flows.store.database import Database
from celery_flows.store.urls import masked

#: The databases that only tests have written to, each by its URL and the name of a table.
_ours: set[tuple[str, str]] = set()


@lru_cache
def _with_tables() -> bytes:
    """A file of SQLite with our tables, as it is on the disk: to make them takes longer than most tests do."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "flows.sqlite3")
        database = Database(f"sqlite:///{file}")
        schema.upgrade(database)
        database.close()
        return file.read_bytes()


def new_file(folder: Path) -> str:
    """Make a file of SQLite with our tables; its URL."""
    file = folder / "flows.sqlite3"
    file.write_bytes(_with_tables())
    return f"sqlite:///{file}"


@contextmanager
def temporary_file() -> Iterator[str]:
    """A file of SQLite with our tables, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="celery-flows-") as folder:
        yield new_file(Path(folder))


def prepare(database: Database) -> None:
    """Make the tables that a database lacks.

    Raises:
        ConfigurationError: it holds batches that no test of this run has made: they would be deleted.
    """
    if schema.current(database) != schema.head():
        schema.upgrade(database)
    shown = masked(database.url)
    key = (shown, database.tables.batches.fullname)
    if key not in _ours and database.transact(emptying.is_used, database.tables):
        raise ConfigurationError(
            problem=f"The database {shown} holds batches, and every test leaves it empty: name one that is for "
            "the tests of this process alone. If it is, a run that was killed has left them: empty it with "
            "`celery-flows --database-url URL downgrade base`."
        )
    _ours.add(key)


def empty(database: Database) -> None:
    """Delete every row."""
    database.transact(emptying.empty, database.tables)
