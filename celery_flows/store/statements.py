"""Statements that run straight on the driver: built once as SQLAlchemy constructs, compiled once per process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Dialect, literal_column
from sqlalchemy.sql import ClauseElement

from celery_flows.store.tables import Tables

#: Builds a statement for the tables of an app and the name of a dialect.
Statement: TypeAlias = Callable[[Tables, str], ClauseElement]


@dataclass(frozen=True)
class Prepared:
    """A statement as the driver takes it."""

    sql: str
    #: Values that the statement brings along.
    defaults: dict[str, Any]
    #: Whether an UPDATE gives a value back by LAST_INSERT_ID(value): MySQL has no RETURNING for it.
    answers_by_id: bool

    def rows_of(self, cursor: Any) -> list[Any]:
        """The rows that an executed statement gave."""
        if cursor.description:
            return list(cursor.fetchall())
        return [(cursor.lastrowid,)] if self.answers_by_id and cursor.lastrowid else []


def prepare(statement: Statement, tables: Tables, dialect: Dialect) -> Prepared:
    """Compile a statement for a dialect."""
    name = "mysql" if dialect.name == "mariadb" else dialect.name
    compiled = statement(tables, name).compile(dialect=dialect)
    return Prepared(str(compiled), dict(compiled.params), answers_by_id=name == "mysql")


def one_of(column: ColumnElement[Any], words: Sequence[str]) -> ColumnElement[bool]:
    """`column IN ('a', 'b')` with the words written out, as a compiled statement needs it."""
    return column.in_([literal_column(f"'{word}'") for word in words])


def word(text: str) -> ColumnElement[Any]:
    """A word of ours written out in the statement, so that the planner sees it."""
    return literal_column(f"'{text}'")
