"""Rows that come to PostgreSQL as one value of a statement: few of them cost no more than any statement does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    DateTime,
    Insert,
    Integer,
    Table,
    Text,
    bindparam,
    cast,
    func,
    insert,
    select,
)
from sqlalchemy import column as named

from celery_flows.store.types import UtcDateTime

#: Rows, and characters in them, up to which that is faster than a COPY, which waits for the server twice.
FEW: Final = 100
SHORT: Final = 100_000


def are_few(rows: Sequence[Sequence[Any]]) -> bool:
    """Whether rows are so few, and so short."""
    return len(rows) <= FEW and sum(len(one) for row in rows for one in row if isinstance(one, str)) <= SHORT


def insert_given(
    table: Table, columns: Sequence[str], more: Callable[[Any], Mapping[str, ColumnElement[Any]]]
) -> Insert:
    """Write rows that come as `:rows`, from `rows_given`.

    Args:
        columns: what is given.
        more: what the database itself writes, told from a row as it is given.
    """
    types = [named(name, _type(table.c[name])) for name in columns]
    source = func.json_to_recordset(cast(bindparam("rows", type_=Text()), JSON))
    row = source.table_valued(*types).render_derived(name="given", with_types=True)
    added = more(row)
    chosen = select(*[row.c[name] for name in columns], *added.values())
    return insert(table).from_select([*columns, *added], chosen, include_defaults=False)


def _type(column: Column[Any]) -> Any:
    if isinstance(column.type, UtcDateTime):
        return DateTime(timezone=True)
    return column.type if isinstance(column.type, Integer) else Text()


def rows_given(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as such a statement takes them; what is None is left out."""
    objects = [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows
    ]
    return json.dumps(objects, default=str, ensure_ascii=False)
