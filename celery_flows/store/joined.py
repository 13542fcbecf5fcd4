"""Acting after somebody else's transaction has really been committed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from celery_flows.errors import BlockMisuse

logger = logging.getLogger(__name__)

#: What a user's transaction may be given as.
Joinable: TypeAlias = Connection | Session

_KEY: Final = "celery_flows_after_commit"

#: Where a connection whose transactions are a framework's keeps how an action waits for their commit.
WAITS: Final = "celery_flows_waits"

#: Isolation levels in which a batch that runs may grow: the check at the end sees what others committed.
_LOOSE: Final = ("READ COMMITTED", "READ UNCOMMITTED")


def connection_of(joined: Joinable) -> Connection:
    """The connection behind what the user gave, in its transaction.

    Raises:
        BlockMisuse: it is neither a Connection nor a Session, or commits each statement on its own.
    """
    connection = joined.connection() if isinstance(joined, Session) else joined
    if not isinstance(connection, Connection):
        raise BlockMisuse(
            problem="connection= takes a SQLAlchemy Connection or Session, "
            f"not a {type(joined).__module__}.{type(joined).__qualname__}."
        )
    if _is_autocommit(connection):
        raise BlockMisuse(
            problem="connection= is in autocommit mode, so there is no transaction to join. "
            "Begin one: with engine.begin() as connection: ..."
        )
    return connection


def _is_autocommit(connection: Connection) -> bool:
    driver: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        if not connection.in_transaction():
            connection.begin()
        # Without the driver's own transactions, but inside one that a listener began, is as good as any.
        return driver.isolation_level is None and not driver.in_transaction
    is_on = driver.get_autocommit() if hasattr(driver, "get_autocommit") else getattr(driver, "autocommit", False)
    return is_on is True or is_on == 1


def strict_isolation(connection: Connection) -> str | None:
    """The transaction's isolation, where it is above READ COMMITTED; None where it is not.

    SQLite has one writer at a time, whose view is always the latest.
    """
    if connection.dialect.name == "sqlite":
        return None
    level = str(connection.get_isolation_level())
    return None if level in _LOOSE else level


def after_commit(connection: Connection, action: Callable[[], None]) -> None:
    """Run `action` once the transaction on this connection is committed, or never if it is rolled back.

    SQLAlchemy announces a Connection's commit before the database has done it, so the action hangs on the
    dialect's own commit. A savepoint's release or rollback is not one.
    """
    if (wait := connection.info.get(WAITS)) is not None:
        wait(action)
        return
    _watch(connection.dialect)
    connection.info.setdefault(_KEY, []).append(action)


def _watch(dialect: Any) -> None:
    if hasattr(dialect, _KEY):
        return
    do_commit, do_rollback = dialect.do_commit, dialect.do_rollback

    def commit(connection: Any) -> None:
        do_commit(connection)
        for action in _pending(connection):
            run_logged(action)

    def rollback(connection: Any) -> None:
        _pending(connection)
        do_rollback(connection)

    dialect.do_commit, dialect.do_rollback = commit, rollback
    setattr(dialect, _KEY, True)


def _pending(connection: Any) -> list[Callable[[], None]]:
    # Also called with a bare DBAPI connection, when the pool makes or discards one.
    info = getattr(connection, "info", None)
    return info.pop(_KEY, []) if isinstance(info, dict) else []


def run_logged(action: Callable[[], None]) -> None:
    """Do something that comes behind a commit, where nobody is to be told of an error."""
    try:
        action()
    except Exception:
        # The user's transaction is committed: nothing that goes wrong now may look as if it were not.
        logger.exception("Publishing after the commit failed; the next sweep publishes.")
