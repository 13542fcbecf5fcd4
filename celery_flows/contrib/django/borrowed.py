"""Django's connection of this thread, as SQLAlchemy may use it.

Django decides when a transaction begins and ends, and when a connection is opened and closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL

from celery_flows.contrib.django.committing import wait
from celery_flows.contrib.django.place import wrapper_of
from celery_flows.store.joined import WAITS

#: How the names of our own SQL functions begin.
OURS: Final = "celery_flows_"


class Borrowed:
    """A driver's connection that is Django's: what SQLAlchemy would end, or set up on it, it leaves alone."""

    def __init__(self, connection: Any, cursor: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._cursor = cursor

    def cursor(self) -> Any:
        """A cursor of the driver's own kind."""
        return self._cursor(self._connection)

    def commit(self) -> None:
        """Leave it to Django."""

    rollback = close = commit

    def character_set_name(self) -> None:
        """Nothing: SQLAlchemy would say SET NAMES each time."""

    def add_notice_handler(self, handler: Any) -> None:
        """Add none: Django has its own."""

    def create_function(self, name: str, *args: Any, **options: Any) -> None:
        """Add a function of ours; those that SQLAlchemy adds Django has too."""
        if name.startswith(OURS):
            self._connection.create_function(name, *args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _cursor(connection: Any) -> Any:
    return connection.cursor()


def _psycopg_cursor(connection: Any) -> Any:
    # Django's own kind puts values into the text of a statement; and its connection reads JSON as text and moments
    # without their zone where USE_TZ is off.
    import psycopg
    from psycopg.types.datetime import TimestamptzBinaryLoader, TimestamptzLoader
    from psycopg.types.json import JsonbBinaryLoader, JsonbLoader

    cursor = psycopg.Cursor(connection)
    for loader in (JsonbLoader, JsonbBinaryLoader):
        cursor.adapters.register_loader("jsonb", loader)
    for moments in (TimestamptzLoader, TimestamptzBinaryLoader):
        cursor.adapters.register_loader("timestamptz", moments)
    return cursor


_CURSORS: Final = {"postgresql": _psycopg_cursor}

#: As the engines of our own have them; what SQLAlchemy would ask the server for hstore's sake it can't ask this.
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "postgresql": {"paramstyle": "pyformat", "use_native_hstore": False},
    "mysql": {"paramstyle": "pyformat"},
    "sqlite": {"paramstyle": "named"},
}


def borrow(alias: str) -> Borrowed:
    """Django's connection of this thread, opened if need be.

    Raises:
        TransactionManagementError: an error was met in its transaction, which can only be rolled back.
    """
    wrapper = wrapper_of(alias)
    renew(wrapper)
    wrapper.validate_thread_sharing()
    wrapper.validate_no_broken_transaction()
    wrapper.ensure_connection()
    return Borrowed(wrapper.connection, _CURSORS.get(wrapper.vendor, _cursor))


def renew(wrapper: Any) -> None:
    """Let Django open another connection where this one was lost."""
    if wrapper.errors_occurred and not wrapper.in_atomic_block:
        wrapper.close_if_unusable_or_obsolete()


def borrowing_engine(alias: str, url: URL) -> Engine:
    """An engine whose connections are Django's, each thread's its own."""
    engine = create_engine(
        url,
        creator=lambda: borrow(alias),
        poolclass=NullPool,
        pool_reset_on_return=None,
        hide_parameters=True,
        **_OPTIONS[wrapper_of(alias).vendor],
    )

    @event.listens_for(engine, "connect")
    def note(_connection: Any, record: Any) -> None:
        record.info[WAITS] = lambda action: wait(action, alias)

    @event.listens_for(engine, "invalidate")
    def mark(*_: Any) -> None:
        # Django looks at it before it is used again.
        wrapper_of(alias).errors_occurred = True

    return engine
