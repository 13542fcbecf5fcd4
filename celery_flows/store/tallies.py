"""What is said to the database about the tallies of batches that tolerate something.

A batch's total is spread over slots, and each process writes one of them: so counting what went wrong
costs a sum of at most 16 rows, and no row is written by everybody.
"""

from __future__ import annotations

import os
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite

from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables
from celery_flows.store.types import KEY
from celery_flows.tolerance import NOTHING

SLOTS: Final = 16


def add(connection: Connection, tables: Tables, batch_id: str, *, total: int = 0, wrong: int = 0) -> None:
    """Add to this process's slot of a batch's tallies."""
    tallies = tables.tallies
    values = {"batch_id": batch_id, "slot": slot(), "total": total, "wrong": wrong}
    more = {"total": tallies.c.total + total, "wrong": tallies.c.wrong + wrong}
    statement: Any
    if connection.dialect.name in ("mysql", "mariadb"):
        statement = mysql.insert(tallies).values(values).on_duplicate_key_update(more)
    else:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        statement = insert(tallies).values(values)
        statement = statement.on_conflict_do_update(index_elements=["batch_id", "slot"], set_=more)
    connection.execute(statement)


def count_one(tables: Tables, dialect: str, batch_id: ColumnElement[str] | None = None) -> Any:
    """Add one that went wrong to slot `:at_slot` of a batch, where that tolerates something.

    Args:
        batch_id: a column of what the statement stands behind; None: it is `:at_batch`.
    """
    batches, into = tables.batches, tables.tallies
    one = batch_id if batch_id is not None else bindparam("at_batch", type_=KEY)
    slot: BindParameter[int] = bindparam("at_slot", type_=into.c.slot.type)
    source = select(batches.c.id, slot, literal_column("0"), literal_column("1")).where(
        batches.c.id == one, ~one_of(batches.c.tolerate, NOTHING)
    )
    columns = ["batch_id", "slot", "total", "wrong"]
    more = {"wrong": into.c.wrong + literal_column("1")}
    if dialect == "mysql":
        return mysql.insert(into).from_select(columns, source).on_duplicate_key_update(more)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(into).from_select(columns, source)
    return statement.on_conflict_do_update(index_elements=["batch_id", "slot"], set_=more)


def slot() -> int:
    """The slot that this process writes."""
    return os.getpid() % SLOTS


def sums(tables: Tables, batch_id: Any) -> list[ColumnElement[int]]:
    """All jobs known of a batch, and how many of them went wrong, as columns of a statement."""
    tallies = tables.tallies
    none: ColumnElement[int] = literal_column("0")
    mine = tallies.c.batch_id == batch_id
    columns = (tallies.c.total, tallies.c.wrong)
    return [select(func.coalesce(func.sum(one), none)).where(mine).scalar_subquery() for one in columns]


def read(connection: Connection, tables: Tables, batch_id: str) -> tuple[int, int]:
    """All jobs known of a batch, and how many of them went wrong."""
    found: Any = connection.execute(select(*sums(tables, batch_id))).one()
    return int(found[0]), int(found[1])


def add_if_kept(connection: Connection, tables: Tables, batch_id: str, *, wrong: int) -> None:
    """Correct the tallies of a batch that has some; a batch that tolerates nothing has none."""
    if read(connection, tables, batch_id) != (0, 0):
        add(connection, tables, batch_id, wrong=wrong)


def forget_wrong(connection: Connection, tables: Tables, batch_id: str) -> None:
    """Begin again to count what goes wrong."""
    tallies = tables.tallies
    connection.execute(update(tallies).where(tallies.c.batch_id == batch_id).values(wrong=0))
