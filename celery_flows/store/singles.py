"""Single statements, each a transaction of its own, straight on the driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.exc import DBAPIError

from celery_flows.store.cursors import Cursors
from celery_flows.store.executing import pipeline_of
from celery_flows.store.failures import is_victim, raised, was_lost
from celery_flows.store.statements import Answer, Asked
from celery_flows.store.tables import Tables

#: How often a transaction is run again that the database gave up.
ATTEMPTS: Final = 10


class Singles:
    """The single statements for the tables of an app."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._cursors: WeakKeyDictionary[Engine, Cursors] = WeakKeyDictionary()

    def run_in_turn(self, engine: Engine, asked: Sequence[Asked], is_joined: Callable[[], bool]) -> list[Answer]:
        """Run statements one after another. If one fails, all may be run again.

        Args:
            is_joined: tells whether they are parts of a transaction that a framework has open on the engine.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                # What is tried again relies on nothing that was prepared.
                return self._run_once(engine, asked, is_joined, is_preparing=attempt == 1)
            except DBAPIError as error:
                if attempt == ATTEMPTS or not (is_victim(error) or was_lost(error, attempt)):
                    raise
                time.sleep(0.005 * (attempt - 1))
        raise AssertionError("unreachable")

    def _run_once(
        self, engine: Engine, asked: Sequence[Asked], is_joined: Callable[[], bool], *, is_preparing: bool
    ) -> list[Answer]:
        pipeline = pipeline_of(engine)
        if pipeline is not None:
            said = [[pipeline.said(*one)] for one in asked]
            return _on_connection(engine, asked, lambda one: pipeline.run(one, said, is_preparing=is_preparing))
        cursors = self._cursors.get(engine)
        if cursors is None:
            cursors = self._cursors[engine] = Cursors(self._tables, engine.dialect)
        is_part = is_joined()
        return _on_connection(engine, asked, lambda one: cursors.run(one, asked, is_joined=is_part))


def _on_connection(
    engine: Engine, asked: Sequence[Asked], run: Callable[[PoolProxiedConnection], list[Answer]]
) -> list[Answer]:
    """Run something on a connection of the pool's, and raise a driver's error as SQLAlchemy would."""
    connection = _connect(engine)
    try:
        return run(connection)
    except engine.dialect.loaded_dbapi.Error as error:
        said = "; ".join(statement.__name__ for statement, _ in asked)
        problem = raised(error, engine, connection.dbapi_connection, said)
        if problem.connection_invalidated:
            connection.invalidate(error)
            engine.dispose()
        raise problem from error
    except BaseException as error:
        # What it will answer is what the next one would take for its own.
        connection.invalidate(error)
        raise
    finally:
        connection.close()


def _connect(engine: Engine) -> PoolProxiedConnection:
    driver_error = engine.dialect.loaded_dbapi.Error
    try:
        return engine.raw_connection()
    except driver_error as error:
        # As SQLAlchemy would have wrapped it, had the statement gone through it.
        raise DBAPIError.instance(None, None, error, driver_error, dialect=engine.dialect) from error
