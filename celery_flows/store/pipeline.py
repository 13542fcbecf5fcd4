"""Statements in libpq's pipeline mode: several in one round trip, each a transaction of its own.

A statement costs its process a third of what it does through a cursor, and an outcome and the look behind it wait
for the server once. The look still begins after the outcome is committed: the server ends the transaction before a
synchronization point before it reads what is behind it
(https://www.postgresql.org/docs/current/libpq-pipeline-mode.html).

psycopg's own pipeline mode sends what cursors execute, at their cost and its own: two statements took longer than
one after the other.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from itertools import count
from typing import Any, Final, NamedTuple

from sqlalchemy import Dialect, PoolProxiedConnection

from celery_flows.store.clock import follow
from celery_flows.store.statements import Answer, PreparedStatements, Statement, Values
from celery_flows.store.tables import Tables

#: Where a connection keeps the names of what it has prepared, by what that says and the types it is given.
_NAMES: Final = "celery_flows_names"

#: Types by their numbers (pg_type.dat in PostgreSQL's source).
_UNKNOWN: Final = 0
_BIG_INTEGER: Final = 20
_INTEGER: Final = 23
_DOUBLE: Final = 701

#: The least number that is too large for an integer.
_SMALL: Final = 1 << 31

#: What says that a prepared statement is not there any more, or no longer good: psycopg lets its session forget
#: everything after a ROLLBACK or a DROP, and a plan that was made before a migration need not fit after it.
FORGOTTEN: Final = ("26000", "0A000")

#: No name is used twice: one that failed to be prepared, or is no longer valid, may or may not be there.
_numbers = count()


class Said(NamedTuple):
    """A statement as it goes over the wire."""

    sql: bytes
    values: tuple[bytes | None, ...] = ()
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
        self._status = self._driver.pq.ExecStatus
        self._prepared = PreparedStatements(tables, _numbering(dialect))

    def said(self, statement: Statement, values: Values) -> Said:
        """What is sent for a statement."""
        prepared = self._prepared[statement]
        # PostgreSQL says in one statement what others say in two.
        assert prepared.then is None
        given = prepared.given(values)
        return Said(prepared.sql.encode(), tuple(map(_text, given)), tuple(map(_type, given)))

    def run(
        self,
        connection: PoolProxiedConnection,
        transactions: Sequence[Sequence[Said]],
        *,
        is_preparing: bool = True,
    ) -> list[Answer]:
        """Run transactions in turn, each whatever became of those before it.

        Args:
            transactions: statements that stand or fall together: the first that fails is the last. Where one of
                them begins a transaction, what follows is in that until it ends.
            is_preparing: whether the server is to remember the statements.

        Returns:
            What came of each statement, in one row.

        Raises:
            psycopg.Error: of the first that failed, once all have ended, or of a connection that is lost.
        """
        driver_connection: Any = connection.dbapi_connection
        names: dict[Any, bytes] | None = connection.info.setdefault(_NAMES, {})
        # As the user has set it: a pooler may give each transaction another session.
        if not is_preparing or driver_connection.prepare_threshold is None:
            names = None
        try:
            answers = self._exchange(driver_connection.pgconn, names, transactions)
        except BaseException:
            # Of no more use: what it will answer belongs to nothing that will be asked.
            driver_connection.close()
            raise
        for answer in answers:
            if not self._is_good(answer):
                error = self._error(answer)
                if names and getattr(error, "sqlstate", None) in FORGOTTEN:
                    names.clear()
                raise error
        return [self._read(driver_connection, answer) for answer in answers]

    def _exchange(
        self, line: Any, names: dict[Any, bytes] | None, transactions: Sequence[Sequence[Said]]
    ) -> list[Any]:
        """Send statements, and receive for each its result, or what is wrong with it."""
        line.enter_pipeline_mode()
        new: list[Any] = []
        for said in transactions:
            for one in said:
                if names is None:
                    line.send_query_params(one.sql, one.values, one.types)
                else:
                    line.send_query_prepared(_name(line, names, new, one), one.values)
            line.pipeline_sync()
        poll = select.poll()
        poll.register(line.socket, select.POLLIN)
        answers: list[Any] = []
        for said in transactions:
            answers += [self._answer(line, poll, names, new, one) for one in said]
            # That the server has come to where it was told to synchronize.
            _next_result(line, poll)
        line.exit_pipeline_mode()
        return answers

    def _answer(self, line: Any, poll: Any, names: dict[Any, bytes] | None, new: list[Any], one: Said) -> Any:
        prepared = None
        if names is not None and one.key in new:
            new.remove(one.key)
            prepared = self._result(line, poll)
            if not self._is_good(prepared):
                del names[one.key]
        answer = self._result(line, poll)
        return answer if prepared is None or self._is_good(prepared) else prepared

    def _result(self, line: Any, poll: Any) -> Any:
        result = _next_result(line, poll)
        if result is None:
            raise self._driver.OperationalError(line.error_message.decode(errors="replace").strip())
        # What follows a result says that it was the last one.
        _next_result(line, poll)
        return result

    def _is_good(self, answer: Any) -> bool:
        return answer.status in (self._status.TUPLES_OK, self._status.COMMAND_OK)

    def _error(self, answer: Any) -> BaseException:
        state = answer.error_field(self._driver.pq.DiagnosticField.SQLSTATE)
        try:
            kind = self._driver.errors.lookup(state.decode())
        except (AttributeError, KeyError):
            kind = self._driver.DatabaseError
        error: BaseException = kind(answer.error_message.decode(errors="replace").strip(), info=answer)
        return error

    def _read(self, driver_connection: Any, answer: Any) -> Answer:
        if answer.status == self._status.COMMAND_OK:
            return answer.command_tuples or 0, []
        reader = self._driver.adapt.Transformer(driver_connection)
        reader.set_pgresult(answer)
        return answer.ntuples, reader.load_rows(0, answer.ntuples, tuple)


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


def _name(line: Any, names: dict[Any, bytes], new: list[Any], one: Said) -> bytes:
    """The name of a statement, which is prepared where it has none."""
    name = names.get(one.key)
    if name is None:
        name = names[one.key] = b"celery_flows_%d" % next(_numbers)
        line.send_prepare(name, one.sql, one.types)
        new.append(one.key)
    return name


def _text(value: str | float | None) -> bytes | None:
    return None if value is None else str(value).encode()


def _type(value: str | int | float | None) -> int:
    """PostgreSQL's number for the type of a value; what a text or a NULL is, the statement says."""
    if isinstance(value, int):
        return _INTEGER if -_SMALL <= value < _SMALL else _BIG_INTEGER
    return _DOUBLE if isinstance(value, float) else _UNKNOWN


def _next_result(line: Any, poll: Any) -> Any:
    # What is left to be sent is sent as the server takes it, which may first want its answers to be read.
    while line.flush():
        poll.modify(line.socket, select.POLLIN | select.POLLOUT)
        poll.poll()
        line.consume_input()
        poll.modify(line.socket, select.POLLIN)
    while line.is_busy():
        poll.poll()
        line.consume_input()
    return line.get_result()
