"""The door to the database, in a Django project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, Error, transaction
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from celery_flows.contrib.django.borrowed import borrowing_engine, renew
from celery_flows.contrib.django.committing import as_committed, wait
from celery_flows.contrib.django.place import engine_options, url_of, wrapper_of
from celery_flows.errors import BlockMisuse
from celery_flows.store.database import Connection, Database, Transaction


class DjangoDatabase(Database):
    """Django's database, on Django's own connection of each thread.

    So what is done takes part in the transaction that is open there. In a worker's process only that is so: what
    is done there outside of a transaction, such as claiming and settling, is done on connections of our own,
    which outlive the tasks.
    """

    def __init__(
        self, alias: str, is_worker: Callable[[], bool], given: Mapping[str, Any], **options: Any
    ) -> None:
        """Name the database; nothing is opened.

        Args:
            alias: its name in DATABASES.
            is_worker: tells whether this process is a worker's.
            given: the setting engine_options.
            options: as a `Database` takes them.
        """
        super().__init__(url_of(wrapper_of(alias)), **options)
        self._alias = alias
        self._is_worker = is_worker
        self._given = given
        self._check, self._on_first_use = self._on_first_use, None
        self._is_checked = self._check is None
        self._borrowing: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine of Django's connections, or that of our own: whichever is meant here."""
        engine = super().engine if self._here() is None else self._borrowing_engine()
        if not self._is_checked:
            self._check_tables()
        return engine

    def _make_engine(self) -> Engine:
        # Tests give their database another name, after this object was made.
        wrapper = wrapper_of(self._alias)
        self.url, self._options = url_of(wrapper), engine_options(wrapper, self._given)
        return super()._make_engine()

    def _borrowing_engine(self) -> Engine:
        if self._borrowing is None:
            self._borrowing = borrowing_engine(self._alias, self.url)
            if self._clock is not None:
                self._clock.stand_in(self._borrowing)
        return self._borrowing

    def _check_tables(self) -> None:
        assert self._check is not None
        # Before, as the check comes this way too.
        self._is_checked = True
        try:
            # A table that is missing must not cost the transaction that is open here.
            with self._transaction():
                self._check(self)
        except BaseException:
            self._is_checked = False
            raise

    def _here(self) -> Any:
        """Django's object for the connection that is meant here, or None where one of our own is."""
        wrapper = wrapper_of(self._alias)
        if wrapper.in_atomic_block:
            return wrapper
        is_manual = not (wrapper.settings_dict["AUTOCOMMIT"] if wrapper.connection is None else wrapper.autocommit)
        # Where the project commits by itself, Django tells nobody.
        return None if is_manual or self._is_worker() else wrapper

    @property
    def is_joined(self) -> bool:
        """Whether what is done here is part of a transaction that Django has open here."""
        return bool(wrapper_of(self._alias).in_atomic_block)

    @contextmanager
    def joined(self) -> Iterator[Connection | None]:
        """Django's connection, while it has a transaction open here."""
        if not self.is_joined:
            yield None
            return
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        wrapper = self._here()
        if wrapper is None:
            with super()._transaction() as connection:
                yield connection
        else:
            renew(wrapper)
            # In a transaction this is a savepoint: what is refused leaves nothing behind.
            with in_our_words(self._alias), transaction.atomic(self._alias), self.engine.begin() as connection:
                yield connection

    def begin(self) -> Transaction:
        """Begin one of Django's transactions, which the caller ends.

        Raises:
            BlockMisuse: the task that runs here has begun one already.
        """
        return DjangoTransaction(self._alias, lambda: self.engine.connect())

    def after_commit(self, action: Callable[[], None], *, is_robust: bool = True) -> None:
        """Do something once Django's transaction that is open here is committed, or now if none is."""
        if self.is_joined:
            wait(action, self._alias, is_robust=is_robust)
        else:
            action()

    def as_committed(self) -> AbstractContextManager[None]:
        """Do what waits for the commit of the transaction that a test case keeps open, as if it had come.

        Raises:
            BlockMisuse: another transaction is open inside of it.
        """
        return as_committed(self._alias)

    def take_back(self, actions: Sequence[Callable[[], None]]) -> list[Callable[[], None]] | None:
        """Those of these actions that still wait for Django's commit; the others' savepoints were rolled back."""
        # delay_on_commit waits for the default database.
        if self._alias != DEFAULT_DB_ALIAS or not self.is_joined:
            return None
        # Each of Django's is what savepoints it stands in, what is to be done, and whether errors are let pass.
        wrapper, ours = wrapper_of(self._alias), {id(action) for action in actions}
        waiting = {id(one[1]) for one in wrapper.run_on_commit}
        wrapper.run_on_commit = [one for one in wrapper.run_on_commit if id(one[1]) not in ours]
        return [action for action in actions if id(action) in waiting]


class DjangoTransaction(Transaction):
    """An atomic block of Django's that is open until whoever began it ends it."""

    def __init__(self, alias: str, connect: Callable[[], Connection]) -> None:
        self._alias = alias
        self._atomic = transaction.atomic(alias, durable=True)
        self._is_open = False
        try:
            with in_our_words(alias):
                self._atomic.__enter__()
        except RuntimeError as error:
            raise BlockMisuse(
                problem="A job's transaction ends with the job, so it can't begin inside of transaction.atomic(). "
                "Begin it first, and write atomic() inside of it."
            ) from error
        self._is_open = True
        try:
            super().__init__(connect())
        except BaseException:
            self._end()
            raise

    def commit(self) -> None:
        """End it, and keep what was written."""
        if transaction.get_rollback(using=self._alias):
            # Django would do so without a word, and the job's outcome would be lost with it.
            problem = "the task has left Django's transaction as one to be rolled back"
            raise DBAPIError(None, None, transaction.TransactionManagementError(problem))
        with in_our_words(self._alias):
            self.connection.close()
            self._end()

    def roll_back(self) -> None:
        """End it, and undo what was written; one that has ended stays as it is."""
        if self._is_open:
            self.connection.close()
            transaction.set_rollback(True, using=self._alias)
            self._end()

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._atomic.__exit__(None, None, None)


@contextmanager
def in_our_words(alias: str) -> Iterator[None]:
    """Raise what Django has made of a driver's error as SQLAlchemy would have raised it."""
    try:
        yield
    except Error as error:
        driver, cause = wrapper_of(alias).Database, error.__cause__
        if not isinstance(cause, driver.Error):
            raise
        # Where a transaction can't be begun. Not asked of the connection, which some drivers would open again.
        is_lost = isinstance(cause, (driver.OperationalError, driver.InterfaceError))
        raise DBAPIError.instance(None, None, cause, driver.Error, connection_invalidated=is_lost) from error
