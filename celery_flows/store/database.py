"""The database of one app: an engine per process, transactions, and single statements."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from celery_flows.codec import Codec
from celery_flows.store import forking
from celery_flows.store.clock import Clock
from celery_flows.store.executing import PIPELINE, SHARED, SINGLE, begin_as, say_now
from celery_flows.store.failures import (
    is_database_error,
    is_missing_table,
    is_unavailable,
    is_victim,
    was_lost,
)
from celery_flows.store.pipeline import Pipeline, has_pipeline, prepare_no_other
from celery_flows.store.sessions import BEGIN, CONNECT, spare_rollbacks
from celery_flows.store.singles import ATTEMPTS, Singles
from celery_flows.store.statements import Answer, Asked, Statement
from celery_flows.store.tables import Tables, tables
from celery_flows.store.urls import driver_missing, read_url

__all__ = [
    "Connection",
    "Database",
    "Transaction",
    "is_database_error",
    "is_missing_table",
    "is_unavailable",
    "is_victim",
]

P = ParamSpec("P")
T = TypeVar("T")

#: Where a connection keeps when it last read, and for how many seconds it is not tried before it reads again.
_USED_AT: Final = "celery_flows_used_at"
_IDLE_SECONDS: Final = 1.0


class Transaction:
    """A transaction that is open until whoever began it ends it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def commit(self) -> None:
        """End it, and keep what was written."""
        with self.connection:
            self.connection.commit()

    def roll_back(self) -> None:
        """End it, and undo what was written; one that has ended stays as it is."""
        # A connection that is lost has rolled back by itself.
        with suppress(Exception):
            self.connection.rollback()
        self.connection.close()


class Database:
    """The one door to the database. Nothing is opened before the first statement.

    Engines are never shared between processes: a forked child forgets its parent's and makes its own.
    Connections are in autocommit mode, so that a single statement is one round trip; a transaction
    says BEGIN and its isolation itself (READ COMMITTED; SQLite: BEGIN IMMEDIATE), whatever the
    engine's or the server's default.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        prefix: str = "flows_",
        schema: str | None = None,
        codec: Codec | None = None,
        clock: Clock | None = None,
        engine_options: Mapping[str, Any] | None = None,
        on_first_use: Callable[[Database], None] | None = None,
    ) -> None:
        self.url = read_url(url)
        self.tables: Tables = tables(prefix, schema, codec)
        self._options = dict(engine_options or {})
        self._clock = clock
        self._on_first_use = on_first_use
        self._lock = threading.RLock()
        self._pid = 0
        self._engine: Engine | None = None
        self._singles = Singles(self.tables)
        # The driver's connections, by identity, that are in use for single reads.
        self._reading: set[int] = set()
        _databases.add(self)

    def _forget_threads(self) -> None:
        # The thread that held the lock when the process was forked does not exist in the child.
        self._lock = threading.RLock()

    @property
    def dialect(self) -> str:
        """Which database this is: "postgresql", "mysql" (also for MariaDB) or "sqlite"."""
        return "mysql" if self.url.get_backend_name() == "mariadb" else self.url.get_backend_name()

    @property
    def engine(self) -> Engine:
        """This process's engine, made at first use."""
        if self._engine is not None and self._pid == os.getpid():
            return self._engine
        with self._lock:
            if self._engine is None or self._pid != os.getpid():
                if self._engine is not None:
                    # The parent's connections: theirs to close, not ours.
                    self._engine.dispose(close=False)
                self._engine, self._pid = self._make_engine(), os.getpid()
                if self._on_first_use is not None:
                    self._check_first_use()
        return self._engine

    def check_once(self) -> None:
        """See that the tables are there, where that has not been seen: for statements on a user's connection."""
        _ = self.engine

    def _check_first_use(self) -> None:
        assert self._on_first_use is not None
        try:
            self._on_first_use(self)
        except BaseException:
            self.close()
            raise

    def _make_engine(self) -> Engine:
        # Ours to say, whatever the options are for the project's own engine: the protocol depends on them.
        options = self._options | {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
        # Errors end up in logs, and what statements are given is users' data.
        options.setdefault("hide_parameters", True)
        execution_options = dict(options.get("execution_options") or {})
        execution_options.pop("isolation_level", None)
        options["execution_options"] = execution_options
        # One way to write parameters for all drivers: by name.
        options["paramstyle"] = "named" if self.dialect == "sqlite" else "pyformat"
        try:
            engine = create_engine(self.url, **options)
        except ImportError as error:
            raise driver_missing(self.url, error) from error
        event.listen(engine, "connect", CONNECT[self.dialect])
        if self._clock is not None:
            self._clock.stand_in(engine)
        if self.dialect == "sqlite":
            forking.guard(engine)
        if PIPELINE not in execution_options and has_pipeline(engine.dialect):
            engine.update_execution_options(**{PIPELINE: Pipeline(self.tables, engine.dialect)})
            event.listen(engine, "connect", prepare_no_other)
        begin_as(engine, BEGIN[self.dialect])

        # An app that nobody holds any longer closes what it opened; in a forked child that is not its own.
        weakref.finalize(self, _dispose, engine, os.getpid()).atexit = False
        # Anew, as a child process may find other connections at the same addresses.
        self._reading = set()
        spare_rollbacks(engine.dialect, self._reading)
        return engine

    def transact(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` in a transaction, and again where it came to nothing.

        That is where the database gave it up in favour of another, and where the connection was lost before
        the commit; whether a commit that got no answer took place, nobody knows.
        """
        # Who has begun the transaction must run it again, not we.
        attempts = 1 if self.is_joined else ATTEMPTS
        for attempt in range(1, attempts + 1):
            is_done = False
            try:
                with self._transaction() as connection:
                    if attempt > 1:
                        # It relies on nothing that was prepared before.
                        connection.execution_options(**{SHARED: True})
                    result = work(connection, *args, **kwargs)
                    is_done = True
                return result
            except DBAPIError as error:
                if attempt == attempts or not (is_victim(error) or (not is_done and was_lost(error, attempt))):
                    raise
                time.sleep(0.005 * attempt)
        raise AssertionError("unreachable")

    def _transaction(self) -> AbstractContextManager[Connection]:
        return self.engine.begin()

    def begin(self) -> Transaction:
        """Begin a transaction that the caller ends."""
        connection = self.engine.connect().execution_options(**{SHARED: True})
        connection.begin()
        say_now(connection)
        return Transaction(connection)

    @property
    def is_joined(self) -> bool:
        """Whether what is done here is part of a transaction that a framework has open here."""
        return False

    def joined(self) -> AbstractContextManager[Connection | None]:
        """The connection of the transaction that a framework has open here, or None."""
        return nullcontext()

    def after_commit(self, action: Callable[[], None], *, is_robust: bool = True) -> None:
        """Do something once what was written here is committed: now, unless a framework's transaction is open.

        Args:
            action: what is to be done.
            is_robust: whether an error is only logged, where it comes behind such a transaction.
        """
        action()

    def as_committed(self) -> AbstractContextManager[None]:
        """Do what waits for the commit of a transaction that a framework's test keeps open, as if it had come.

        What waits by now is done before the block, and what the block adds, after it.
        """
        return nullcontext()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for single reads: each statement is its own transaction.

        One that was idle is tried first: the database may have gone and come back meanwhile.
        """
        with self._connection_that_lives() as connection:
            driver_connection = id(connection.connection.dbapi_connection)
            self._reading.add(driver_connection)
            try:
                yield connection
            finally:
                connection.rollback()
                connection.info[_USED_AT] = time.monotonic()
                # Before the pool has it back, for somebody's transaction.
                self._reading.discard(driver_connection)

    def _connection_that_lives(self) -> Connection:
        connection = self._connection_for_reading()
        if time.monotonic() - connection.info.get(_USED_AT, time.monotonic()) < _IDLE_SECONDS:
            return connection
        try:
            connection.exec_driver_sql("SELECT 1")
        except DBAPIError as error:
            connection.close()
            if not error.connection_invalidated:
                raise
            return self._connection_for_reading()
        return connection

    def _connection_for_reading(self) -> Connection:
        return self.engine.connect().execution_options(**{SINGLE: True})

    def take_back(self, actions: Sequence[Callable[[], None]]) -> list[Callable[[], None]] | None:
        """Those of these actions that still wait for the commit of a framework's transaction, now told not to.

        None where what is written here takes no part in that transaction.
        """
        return None

    def run(self, statement: Statement, **values: Any) -> Answer:
        """Run one statement as a transaction of its own, straight on the driver.

        This is the path of claim, settle and probe: compiled once, one round trip, a fifth of the
        Python time of a Core execution. Values and columns are text and numbers only. A lost
        connection or a deadlock is tried again, so the statement must bear being run twice.

        Returns:
            The number of rows touched, and the rows; where it is two statements, of the first.
        """
        return self.run_in_turn((statement, values))[0]

    def run_in_turn(self, *asked: Asked) -> list[Answer]:
        """Run such statements one after another, each a transaction of its own that sees what those before wrote.

        Over psycopg that is one round trip. If one fails, all may be run again.
        """
        return self._singles.run_in_turn(self.engine, asked, lambda: self.is_joined)

    def close(self) -> None:
        """Close all connections of this process. The next use opens new ones."""
        with self._lock:
            if self._engine is not None and self._pid == os.getpid():
                self._engine.dispose()
            self._engine = None


def _dispose(engine: Engine, pid: int) -> None:
    engine.dispose(close=pid == os.getpid())


#: All of this process, for the fork that may come.
_databases: WeakSet[Database] = WeakSet()


def _forget_threads() -> None:
    for database in _databases:
        database._forget_threads()


os.register_at_fork(after_in_child=_forget_threads)
