"""Single statements on a driver's cursor, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Dialect, PoolProxiedConnection

from celery_flows.store.sessions import BEGIN
from celery_flows.store.statements import Answer, Asked, Prepared, PreparedStatements, Values
from celery_flows.store.tables import Tables

#: Where a connection keeps the cursor on which its single statements run.
_CURSOR: Final = "celery_flows_cursor"


class Cursors:
    """What every driver has."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._prepared = PreparedStatements(tables, dialect)
        self._begin = BEGIN[dialect.name]

    def run(self, connection: PoolProxiedConnection, asked: Sequence[Asked], *, is_joined: bool) -> list[Answer]:
        """Run statements one after another, each as a transaction of its own; an error ends it.

        Args:
            is_joined: they are parts of a transaction that is under way instead.

        Raises:
            Exception: the driver's own.
        """
        # One for all its statements: to make one takes a fifth of what a statement does.
        cursor = connection.info.get(_CURSOR) or connection.info.setdefault(_CURSOR, connection.cursor())
        try:
            begin = None if is_joined else self._begin
            return [_run(cursor, self._prepared[statement], values, begin) for statement, values in asked]
        except BaseException:
            connection.info.pop(_CURSOR, None)
            raise


def _run(cursor: Any, prepared: Prepared, values: Values, begin: str | None) -> Answer:
    if prepared.then is None:
        return _run_one(cursor, prepared, values)
    return _run_both(cursor, prepared, values, begin)


def _run_one(cursor: Any, prepared: Prepared, values: Values) -> Answer:
    cursor.execute(prepared.sql, prepared.given(values))
    # In this order: SQLite knows how many rows it changed once it has returned them.
    rows = _rows_of(cursor, prepared)
    return cursor.rowcount, rows


def _rows_of(cursor: Any, prepared: Prepared) -> list[Any]:
    if cursor.description:
        return list(cursor.fetchall())
    return [(cursor.lastrowid,)] if prepared.answers_by_id and cursor.lastrowid else []


def _run_both(cursor: Any, prepared: Prepared, values: Values, begin: str | None) -> Answer:
    """Run it, and what follows, in a transaction; None: in that which is under way."""
    if begin is None:
        return _run_and_follow(cursor, prepared, values)
    cursor.execute(begin)
    try:
        found = _run_and_follow(cursor, prepared, values)
        cursor.execute("COMMIT")
        return found
    except BaseException:
        # A connection that is lost has rolled back by itself, and its driver may say so once more.
        with suppress(Exception):
            cursor.execute("ROLLBACK")
        raise


def _run_and_follow(cursor: Any, prepared: Prepared, values: Values) -> Answer:
    number, rows = _run_one(cursor, prepared, values)
    if number and prepared.then is not None:
        _run_one(cursor, prepared.then, values)
    return number, rows
