"""Statements in a transaction, or as single reads, said straight to the driver.

Where a driver can have several said in one round trip, a transaction begins with its first statement, and what is
to be said later is said with what is said next, at the latest with the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from celery_flows.store.failures import is_victim, raised
from celery_flows.store.pipeline import Pipeline, Said
from celery_flows.store.statements import Asked, Statement, prepare
from celery_flows.store.tables import Tables

#: The option of a connection that is in use for single reads: each statement is its own transaction.
SINGLE: Final = "flows_single"

#: The option of a connection on whose transaction others say something too.
SHARED: Final = "flows_shared"

#: The option of a connection that has a pipeline.
PIPELINE: Final = "flows_pipeline"

#: Where a connection keeps what is still to be said in its transaction.
_LATER: Final = "celery_flows_later"

_COMMIT: Final = Said(b"COMMIT")

_prepare_once = lru_cache(maxsize=256)(prepare)


def execute(connection: Connection, tables: Tables, statement: Statement, **values: Any) -> list[Any]:
    """Run a statement, and give its rows.

    It costs a third of what a Core execution does, or less, and values and columns are text and numbers only.
    """
    [rows] = execute_in_turn(connection, tables, (statement, values))
    return rows


def execute_in_turn(connection: Connection, tables: Tables, *asked: Asked) -> list[list[Any]]:
    """Run statements one after another, and give the rows of each."""
    pipeline: Pipeline | None = connection.get_execution_options().get(PIPELINE)
    if pipeline is None:
        return [_execute(connection, tables, *one) for one in asked]
    said = [pipeline.said(*one) for one in asked]
    try:
        return _say(connection, pipeline, said, asked)
    except DBAPIError as error:
        # A transaction is run again by whoever began it.
        if not (connection.get_execution_options().get(SINGLE) and is_victim(error)):
            raise
    return _say(connection, pipeline, said, asked)


def execute_later(connection: Connection, tables: Tables, statement: Statement, **values: Any) -> None:
    """Run a statement before anything else is said in this transaction, at the latest with its commit."""
    pipeline: Pipeline | None = connection.get_execution_options().get(PIPELINE)
    if pipeline is None:
        _execute(connection, tables, statement, values)
    else:
        _later(connection).append(pipeline.said(statement, values))


def _execute(connection: Connection, tables: Tables, statement: Statement, values: Any) -> list[Any]:
    prepared = _prepare_once(statement, tables, connection.dialect)
    result = connection.exec_driver_sql(prepared.sql, prepared.given(values))
    return list(result.fetchall()) if result.returns_rows else []


def _later(connection: Connection) -> list[Said]:
    found: list[Said] = connection.info.setdefault(_LATER, [])
    return found


def _say(
    connection: Connection, pipeline: Pipeline, said: Sequence[Said], asked: Sequence[Asked] = ()
) -> list[list[Any]]:
    """Say what was to be said later, and this; give the rows of this."""
    before = connection.info.pop(_LATER, [])
    options = connection.get_execution_options()
    every = [*before, *said]
    transactions = [[one] for one in every] if options.get(SINGLE) else [every]
    try:
        answers = pipeline.run(connection.connection, transactions, is_preparing=not options.get(SHARED))
    except connection.dialect.loaded_dbapi.Error as error:
        problem = raised(error, connection.engine, connection.connection.dbapi_connection, asked)
        if problem.connection_invalidated:
            connection.invalidate(error)
            connection.engine.dispose()
        raise problem from error
    return [rows for _, rows in answers[len(before) :]]


def say_now(connection: Connection) -> None:
    """Say what was to be said later, as somebody is about to use the connection otherwise."""
    if connection.info.get(_LATER):
        _say(connection, connection.get_execution_options()[PIPELINE], [])


def _commit(connection: Connection) -> None:
    try:
        _say(connection, connection.get_execution_options()[PIPELINE], [_COMMIT])
    except BaseException:
        # For SQLAlchemy the transaction has ended, whatever became of its commit.
        with suppress(Exception):
            connection.connection.rollback()
        raise


def begin_as(engine: Engine, begin: str) -> None:
    """Let the transactions of an engine begin as they are to, and say in time what is to be said later."""
    first = Said(begin.encode())
    has_pipeline = PIPELINE in engine.get_execution_options()

    @event.listens_for(engine, "begin")
    def say_begin(connection: Connection) -> None:
        if connection.get_execution_options().get(SINGLE):
            return
        if has_pipeline:
            connection.info[_LATER] = [first]
        else:
            connection.exec_driver_sql(begin)

    if not has_pipeline:
        return

    @event.listens_for(engine, "before_cursor_execute")
    def say_before(connection: Connection, *_: Any) -> None:
        say_now(connection)

    @event.listens_for(engine, "commit")
    def say_with_commit(connection: Connection) -> None:
        later = connection.info.get(_LATER)
        # What has said nothing has not begun.
        if later and later[-1] is not first:
            _commit(connection)
        connection.info.pop(_LATER, None)

    @event.listens_for(engine, "rollback")
    def forget(connection: Connection) -> None:
        if not connection.invalidated:
            connection.info.pop(_LATER, None)
