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

#: The option of a connection that has a pipeline; False, from a user: it is to have none.
PIPELINE: Final = "flows_pipeline"

#: Where a connection keeps what is still to be said in its transaction.
_LATER: Final = "celery_flows_later"

_COMMIT: Final = Said("COMMIT")

_prepare_once = lru_cache(maxsize=256)(prepare)


def pipeline_of(bind: Connection | Engine) -> Pipeline | None:
    """The pipeline of an engine's connections, or None."""
    return bind.get_execution_options().get(PIPELINE) or None


def execute(connection: Connection, tables: Tables, statement: Statement, **values: Any) -> list[Any]:
    """Run a statement, and give its rows.

    It costs a third of what a Core execution does, or less, and values and columns are text and numbers only.
    """
    [rows] = execute_in_turn(connection, tables, (statement, values))
    return rows


def execute_in_turn(connection: Connection, tables: Tables, *asked: Asked) -> list[list[Any]]:
    """Run statements one after another, and give the rows of each."""
    pipeline = pipeline_of(connection)
    if pipeline is None:
        return [_execute(connection, tables, *one) for one in asked]
    said = [pipeline.said(*one) for one in asked]
    try:
        return _say(connection, pipeline, said)
    except DBAPIError as error:
        # A transaction is run again by whoever began it.
        if not (_is_single(connection) and is_victim(error)):
            raise
    return _say(connection, pipeline, said)


def execute_later(connection: Connection, tables: Tables, statement: Statement, **values: Any) -> None:
    """Run a statement before anything else is said in this transaction, at the latest with its commit."""
    pipeline = pipeline_of(connection)
    # In a savepoint, who began that is to hear of an error.
    if pipeline is None or _is_single(connection) or connection.in_nested_transaction():
        execute(connection, tables, statement, **values)
    else:
        _begin(connection)
        later: list[Said] = connection.info.setdefault(_LATER, [])
        later.append(pipeline.said(statement, values))


def _execute(connection: Connection, tables: Tables, statement: Statement, values: Any) -> list[Any]:
    prepared = _prepare_once(statement, tables, connection.dialect)
    result = connection.exec_driver_sql(prepared.sql, prepared.given(values))
    return list(result.fetchall()) if result.returns_rows else []


def _is_single(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(SINGLE))


def _begin(connection: Connection) -> None:
    # As what goes through SQLAlchemy does: a task may have ended the transaction that it was given.
    if not connection.in_transaction():
        connection.begin()


def _say(connection: Connection, pipeline: Pipeline, said: Sequence[Said]) -> list[list[Any]]:
    """Say what was to be said later, and this; give the rows of this."""
    is_single = _is_single(connection)
    if not is_single:
        _begin(connection)
    before: list[Said] = connection.info.pop(_LATER, [])
    every = [*before, *said]
    transactions = [[one] for one in every] if is_single else [every]
    is_preparing = not connection.get_execution_options().get(SHARED)
    try:
        answers = pipeline.run(connection.connection, transactions, is_preparing=is_preparing)
    except connection.dialect.loaded_dbapi.Error as error:
        words = "; ".join(one.sql for one in every)
        problem = raised(error, connection.engine, connection.connection.dbapi_connection, words)
        if problem.connection_invalidated:
            connection.invalidate(error)
            connection.engine.dispose()
        raise problem from error
    except BaseException as error:
        # What it will answer is what the next one would take for its own.
        connection.invalidate(error)
        raise
    return [rows for _, rows in answers[len(before) :]]


def say_now(connection: Connection) -> None:
    """Say what was to be said later, as somebody is about to use the connection otherwise."""
    pipeline = pipeline_of(connection)
    if pipeline is not None and connection.info.get(_LATER):
        _say(connection, pipeline, [])


def _commit(connection: Connection, pipeline: Pipeline) -> None:
    try:
        _say(connection, pipeline, [_COMMIT])
    except BaseException:
        # For SQLAlchemy the transaction has ended, whatever became of its commit.
        if not connection.invalidated:
            with suppress(Exception):
                connection.connection.rollback()
        raise


def begin_as(engine: Engine, begin: str) -> None:
    """Let the transactions of an engine begin as they are to, and say in time what is to be said later."""
    first = Said(begin)
    has_pipeline = bool(engine.get_execution_options().get(PIPELINE))

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
        pipeline = pipeline_of(connection)
        # What has said nothing has not begun.
        if pipeline is not None and later and later[-1] is not first:
            _commit(connection, pipeline)
        connection.info.pop(_LATER, None)

    @event.listens_for(engine, "rollback")
    def forget(connection: Connection) -> None:
        if not connection.invalidated:
            connection.info.pop(_LATER, None)
