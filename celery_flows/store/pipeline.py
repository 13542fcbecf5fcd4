"""Statements in libpq's pipeline mode: several in one round trip.

A statement costs its process a third of what it does through a cursor, and an outcome and the look behind it wait
for the server once. The look still begins after the outcome is committed: the server ends the transaction before a
synchronization point before it reads what is behind it
(https://www.postgresql.org/docs/current/libpq-pipeline-mode.html).

psycopg's own pipeline mode sends what cursors execute, at their cost and its own: two statements took longer than
one after the other.
"""

from __future__ import annotations

import hashlib
import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from sqlalchemy import Dialect, PoolProxiedConnection

from celery_flows.store.clock import follow
from celery_flows.store.statements import Answer, PreparedStatements, Statement, Values
from celery_flows.store.tables import Tables

#: Types by their numbers (pg_type.dat in PostgreSQL's source).
_UNKNOWN: Final = 0
_BIG_INTEGER: Final = 20
_INTEGER: Final = 23
_DOUBLE: Final = 701

#: The least number that is too large for an integer.
_SMALL: Final = 1 << 31

#: What is said where a prepared statement is not there any more, is there already, or has an outdated plan:
#: psycopg lets its session forget everything after a ROLLBACK, a DROP or an ALTER, a pooler may give it to another
#: process, and a migration may change what a plan gives.
_NOT_AS_PREPARED: Final = ("26000", "42P05", "0A000")

#: What such an error is marked with: whoever tries again, without preparing, gets through.
STALE: Final = "celery_flows_stale"

#: Where a connection keeps what it has prepared.
_NAMES: Final = "celery_flows_names"


#: Where a connection keeps whether its user lets statements be prepared.
_PREPARES: Final = "celery_flows_prepares"

#: How long the server is asked to give up a statement, in seconds.
_PATIENCE: Final = 5.0


class Said(NamedTuple):
    """A statement as the server takes it."""

    sql: str
    values: Sequence[str | int | float | None] = ()
    #: What the values are, by PostgreSQL's numbers for types.
    types: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        """What it is prepared for: the same words, and values of the same types."""
        return (self.sql, *self.types)


class Pipeline:
    """The mode as the connections of an engine have it."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._driver: Any = dialect.loaded_dbapi
        self._prepared = PreparedStatements(tables, _numbering(dialect))

    def said(self, statement: Statement, values: Values) -> Said:
        """What is sent for a statement."""
        prepared = self._prepared[statement]
        # PostgreSQL says in one statement what others say in two.
        assert prepared.then is None
        given = prepared.given(values)
        return Said(prepared.sql, given, tuple(map(_type, given)))

    def run(
        self,
        connection: PoolProxiedConnection,
        transactions: Sequence[Sequence[Said]],
        *,
        is_preparing: bool = True,
    ) -> list[Answer]:
        """Run transactions in turn, each whatever became of those before it.

        If it is interrupted, the connection is closed: what it would answer belongs to nothing that will be asked.

        Args:
            transactions: statements that stand or fall together: the first that fails is the last. Where one of
                them begins a transaction, what follows is in that until it ends.
            is_preparing: whether the server is to remember the statements.

        Returns:
            What came of each statement, in one list.

        Raises:
            psycopg.Error: of the first that failed, once all have ended, or of a connection that is lost.
        """
        names: _Names | None = connection.info.get(_NAMES) or connection.info.setdefault(_NAMES, _Names())
        # As the user has set it: a pooler may give each transaction another session.
        if not (is_preparing and connection.info[_PREPARES]):
            names = None
        exchange = _Exchange(self._driver, connection.dbapi_connection, names)
        try:
            answers = exchange.run(transactions)
        except BaseException:
            exchange.cancel()
            raise
        for answer in answers:
            if not exchange.is_good(answer):
                raise exchange.error(answer)
        return [exchange.read(answer) for answer in answers]


class _Names:
    """What a session has been asked to remember."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], bytes] = {}
        self._generation = 0

    def new(self, one: Said) -> bytes:
        """Name a statement: no other one is called so in any session, as a pooler may confuse them."""
        digest = hashlib.sha256(repr(one.key).encode()).hexdigest()[:20]
        name = self.known[one.key] = f"celery_flows_{digest}_{self._generation}".encode()
        return name

    def forget(self) -> None:
        """Name all anew: under the old names they may be there or not."""
        self.known.clear()
        self._generation += 1


class _Exchange:
    """One conversation with the server."""

    def __init__(self, driver: Any, connection: Any, names: _Names | None) -> None:
        self._driver = driver
        self._connection = connection
        self._line = connection.pgconn
        self._names = names
        self._encoding = connection.info.encoding
        # What is prepared on the way.
        self._new: list[tuple[Any, ...]] = []
        #: The first result that says what is wrong.
        self._wrong: Any = None
        self._status = driver.pq.ExecStatus

    def run(self, transactions: Sequence[Sequence[Said]]) -> list[Any]:
        """Send statements, and receive for each its result, or what is wrong with it."""
        try:
            return self._run(transactions)
        except self._driver.OperationalError as lost:
            if self._wrong is None:
                raise
            # Why the server has ended the connection, it has said before.
            raise self.error(self._wrong) from lost

    def cancel(self) -> None:
        """Let the server give up what it is at, and whatever that holds, and say nothing more."""
        with suppress(Exception):
            if self._line.transaction_status == self._driver.pq.TransactionStatus.ACTIVE:
                self._connection.cancel_safe(timeout=_PATIENCE)
        self._connection.close()

    def _run(self, transactions: Sequence[Sequence[Said]]) -> list[Any]:
        line = self._line
        self._poll = select.poll()
        self._poll.register(line.socket, select.POLLIN)
        line.enter_pipeline_mode()
        for said in transactions:
            for one in said:
                self._send(one)
            line.pipeline_sync()
        answers: list[Any] = []
        for said in transactions:
            answers += [self._answer(one) for one in said]
            # That the server has come to where it was told to synchronize.
            self._next()
        line.exit_pipeline_mode()
        return answers

    def _send(self, one: Said) -> None:
        line, names = self._line, self._names
        values, types = [self._text(value) for value in one.values], list(one.types)
        if names is None:
            line.send_query_params(one.sql.encode(self._encoding), values, types)
            return
        name = names.known.get(one.key)
        if name is None:
            name = names.new(one)
            line.send_prepare(name, one.sql.encode(self._encoding), types)
            self._new.append(one.key)
        line.send_query_prepared(name, values)

    def _text(self, value: str | float | None) -> bytes | None:
        if value is None:
            return None
        text = str(value)
        if "\0" in text:
            # It would end there.
            raise self._driver.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return text.encode(self._encoding)

    def _answer(self, one: Said) -> Any:
        if one.key in self._new:
            self._new.remove(one.key)
            prepared = self._result()
            if not self.is_good(prepared):
                assert self._names is not None
                del self._names.known[one.key]
                # Its execution was not tried.
                self._result()
                return prepared
        return self._result()

    def _result(self) -> Any:
        result = self._next()
        if result is None:
            raise self._driver.OperationalError(self._line.error_message.decode(errors="replace").strip())
        if self._wrong is None and not self.is_good(result):
            self._wrong = result
        # What follows a result says that it was the last one.
        self._next()
        return result

    def _next(self) -> Any:
        line = self._line
        # What is left to be sent is sent as the server takes it, which may first want its answers to be read.
        while line.flush():
            self._poll.modify(line.socket, select.POLLIN | select.POLLOUT)
            self._poll.poll()
            line.consume_input()
            self._poll.modify(line.socket, select.POLLIN)
        while line.is_busy():
            self._poll.poll()
            line.consume_input()
        return line.get_result()

    def is_good(self, answer: Any) -> bool:
        """Whether a result is none that says what is wrong."""
        return answer.status in (self._status.TUPLES_OK, self._status.COMMAND_OK)

    def error(self, answer: Any) -> Exception:
        """What psycopg would raise."""
        field = answer.error_field(self._driver.pq.DiagnosticField.SQLSTATE)
        state = "" if field is None else field.decode()
        try:
            kind = self._driver.errors.lookup(state)
        except KeyError:
            kind = self._driver.DatabaseError
        error: Exception = kind(answer.error_message.decode(self._encoding, "replace").strip(), info=answer)
        if self._names is not None and state in _NOT_AS_PREPARED:
            self._names.forget()
            setattr(error, STALE, True)
        return error

    def read(self, answer: Any) -> Answer:
        """The number of rows touched, and the rows."""
        if answer.status == self._status.COMMAND_OK:
            return answer.command_tuples or 0, []
        reader = self._driver.adapt.Transformer(self._connection)
        reader.set_pgresult(answer)
        return answer.ntuples, reader.load_rows(0, answer.ntuples, tuple)


def prepare_no_other(connection: Any, record: Any) -> None:
    """Let psycopg prepare nothing by itself on a new connection.

    What is prepared while a table is empty is planned for an empty table, until there are statistics. To those few
    that are said to pipelines that makes no difference; the others look for many rows at a time, or for a user.
    """
    record.info[_PREPARES] = connection.prepare_threshold is not None
    connection.prepare_threshold = None


def has_pipeline(dialect: Dialect) -> bool:
    """Whether a driver is psycopg 3, with a libpq that has the mode: from 14 on."""
    if (dialect.name, dialect.driver) != ("postgresql", "psycopg") or not hasattr(select, "poll"):
        return False
    driver: Any = dialect.loaded_dbapi
    return bool(driver.Pipeline.is_supported())


def _numbering(dialect: Dialect) -> Dialect:
    """The same dialect, which numbers the values of a statement as the server itself has them: $1, $2."""
    numbering: Any = type(dialect)
    made: Dialect = numbering(paramstyle="numeric_dollar")
    follow(dialect, made)
    return made


def _type(value: str | int | float | None) -> int:
    """PostgreSQL's number for the type of a value; what a text or a NULL is, the statement says."""
    if isinstance(value, int):
        return _INTEGER if -_SMALL <= value < _SMALL else _BIG_INTEGER
    return _DOUBLE if isinstance(value, float) else _UNKNOWN
