"""What an error of the database's means for what was to be done."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from celery_flows.store.pipeline import STALE

#: What says that a transaction lost against another and may simply be run again:
#: SQLSTATE of PostgreSQL, error numbers of MySQL and MariaDB (deadlock, lock wait timeout).
_VICTIM_STATES: Final = ("40001", "40P01")
_VICTIM_NUMBERS: Final = (1213, 1205, 1020)

#: What says that a table is missing: SQLSTATE of PostgreSQL, error number of MySQL and MariaDB.
_MISSING_TABLE_STATE: Final = "42P01"
_MISSING_TABLE_NUMBER: Final = 1146


def is_victim(error: DBAPIError) -> bool:
    """Whether the database gave up this transaction for what is no fault of its own."""
    cause = error.orig
    if getattr(cause, "sqlstate", None) in _VICTIM_STATES or getattr(cause, STALE, False):
        return True
    number = cause.args[0] if cause is not None and cause.args else None
    return number in _VICTIM_NUMBERS or "database is locked" in str(cause)


def was_lost(error: DBAPIError, attempt: int) -> bool:
    """Whether a connection that had been idle was gone; a new one is tried, not many."""
    return error.connection_invalidated and attempt < 3


def is_database_error(error: BaseException) -> bool:
    """Whether the database, or the way to it, failed."""
    return isinstance(error, SQLAlchemyError)


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not be reached, rather than having refused what was asked of it."""
    # A pool whose connections are all in use for too long gives none.
    if isinstance(error, PoolTimeoutError):
        return True
    return isinstance(error, DBAPIError) and (error.connection_invalidated or isinstance(error, OperationalError))


def raised(error: Exception, engine: Engine, connection: Any, said: str) -> DBAPIError:
    """What SQLAlchemy would have made of a driver's error, had these statements gone through it."""
    dialect: Any = engine.dialect
    problem: Any = DBAPIError.instance(
        said,
        [],
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=dialect.is_disconnect(error, connection, None),
        dialect=dialect,
    )
    assert isinstance(problem, DBAPIError)
    return problem


def is_missing_table(error: BaseException) -> bool:
    """Whether a statement met a table that does not exist."""
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    number = cause.args[0] if cause is not None and cause.args else None
    is_missing = getattr(cause, "sqlstate", None) == _MISSING_TABLE_STATE or number == _MISSING_TABLE_NUMBER
    return is_missing or "no such table" in str(cause)
