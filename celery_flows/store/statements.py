"""Statements that run straight on the driver: built once as SQLAlchemy constructs, compiled once per process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Dialect,
    String,
    Update,
    any_,
    func,
    literal,
    literal_column,
    select,
    true,
)
from sqlalchemy.sql import ClauseElement

from celery_flows.store.tables import Tables

#: Builds a statement for the tables of an app and the name of a dialect. Or two, for one transaction: the
#: second is said only if the first has hit a row.
Statement: TypeAlias = Callable[[Tables, str], "ClauseElement | tuple[ClauseElement, ClauseElement]"]


@dataclass(frozen=True)
class Prepared:
    """A statement as the driver takes it."""

    sql: str
    #: Values that the statement brings along.
    defaults: dict[str, Any]
    #: Whether an UPDATE gives a value back by LAST_INSERT_ID(value): MySQL has no RETURNING for it.
    answers_by_id: bool
    #: The order of its values, for drivers that take them by place: an engine of ours takes them by name, but a
    #: connection that is joined may be anybody's.
    places: tuple[str, ...] | None = None
    #: What follows in the same transaction, if this hit a row.
    then: Prepared | None = None

    def given(self, values: dict[str, Any]) -> Any:
        """Its values, as the driver takes them."""
        named = self.defaults | values
        return named if self.places is None else tuple(named[name] for name in self.places)

    def run(self, cursor: Any, values: dict[str, Any]) -> tuple[int, list[Any]]:
        """Run it on a driver's cursor: the number of rows touched, and the rows."""
        cursor.execute(self.sql, self.given(values))
        # In this order: SQLite knows how many rows it changed once it has returned them.
        rows = self._rows_of(cursor)
        return cursor.rowcount, rows

    def run_both(self, cursor: Any, values: dict[str, Any]) -> tuple[int, list[Any]]:
        """Run it, and what follows, in the transaction that the cursor is in."""
        number, rows = self.run(cursor, values)
        if number and self.then is not None:
            self.then.run(cursor, values)
        return number, rows

    def _rows_of(self, cursor: Any) -> list[Any]:
        if cursor.description:
            return list(cursor.fetchall())
        return [(cursor.lastrowid,)] if self.answers_by_id and cursor.lastrowid else []


def prepare(statement: Statement, tables: Tables, dialect: Dialect) -> Prepared:
    """Compile a statement for a dialect."""
    name = "mysql" if dialect.name == "mariadb" else dialect.name
    built = statement(tables, name)
    if not isinstance(built, tuple):
        return _compile(built, dialect, name)
    first, then = built
    return _compile(first, dialect, name, _compile(then, dialect, name))


def _compile(element: ClauseElement, dialect: Dialect, name: str, then: Prepared | None = None) -> Prepared:
    compiled: Any = element.compile(dialect=dialect)
    places = tuple(compiled.positiontup) if compiled.positional else None
    return Prepared(str(compiled), dict(compiled.params), name == "mysql", places, then)


_prepare_once = lru_cache(maxsize=256)(prepare)


def execute(connection: Connection, tables: Tables, statement: Statement, **values: Any) -> list[Any]:
    """Run one such statement in a transaction of ours that is under way, and give its rows.

    It costs a third of what a Core execution does, and values and columns are text and numbers only.
    """
    prepared = _prepare_once(statement, tables, connection.dialect)
    result = connection.exec_driver_sql(prepared.sql, prepared.given(values))
    return list(result.fetchall()) if result.returns_rows else []


def answering(statement: Update, column: ColumnElement[Any], dialect: str) -> Update:
    """Let an UPDATE of one row say what stands in a column of it."""
    if dialect == "mysql":
        return statement.values({column: func.last_insert_id(column)})
    return statement.returning(column)


def unhurried(statement: Update, dialect: str) -> Update:
    """Let an UPDATE not wait for the disk, where the database lets a transaction choose.

    It is for what is made good if a crash of the database forgets it (decision "claim-durability"), and for the
    transaction only which this statement is.
    """
    if dialect != "postgresql":
        return statement
    said = select(func.set_config(word("synchronous_commit"), word("off"), true())).scalar_subquery()
    return statement.where(said.is_not(None))


def one_of(column: ColumnElement[Any], words: Sequence[str]) -> ColumnElement[bool]:
    """`column IN ('a', 'b')` with the words written out, as a compiled statement needs it."""
    return column.in_([literal_column(f"'{word}'") for word in words])


def in_list(connection: Connection, column: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
    """`column IN (values)`; on PostgreSQL as one array, as a thousand parameters take long to read and to plan."""
    if connection.dialect.name != "postgresql":
        return column.in_(values)
    return column == any_(literal(list(values), ARRAY(String)))


def word(text: str) -> ColumnElement[Any]:
    """A word of ours written out in the statement, so that the planner sees it."""
    return literal_column(f"'{text}'")
