"""Statements that run straight on the driver: built once as SQLAlchemy constructs, compiled once per process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

#: What a statement is given, by name: text and numbers only.
Values: TypeAlias = Mapping[str, str | int | float | None]

#: A statement, and what it is given.
Asked: TypeAlias = tuple[Statement, Values]

#: The number of rows that a statement touched, and its rows.
Answer: TypeAlias = tuple[int, list[Any]]


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

    def given(self, values: Values) -> Any:
        """Its values, as the driver takes them."""
        named = {**self.defaults, **values}
        return named if self.places is None else tuple(named[name] for name in self.places)


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


class PreparedStatements(dict[Statement, Prepared]):
    """Statements for the tables of an app and one dialect, each compiled when it is first asked for."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        super().__init__()
        self._tables = tables
        self._dialect = dialect

    def __missing__(self, statement: Statement) -> Prepared:
        prepared = self[statement] = prepare(statement, self._tables, self._dialect)
        return prepared


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
