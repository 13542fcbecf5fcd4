"""What is said to the database about the tallies of batches that tolerate something.

A batch's total is spread over slots, and each process writes one of them: so counting what went wrong
costs a sum of at most 16 rows, and no row is written by everybody.
"""

from __future__ import annotations

import os
from typing import Any, Final

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from celery_flows.store.tables import Tables

SLOTS: Final = 16


def add(connection: Connection, tables: Tables, batch_id: str, *, total: int = 0, wrong: int = 0) -> None:
    """Add to this process's slot of a batch's tallies."""
    tallies = tables.tallies
    values = {"batch_id": batch_id, "slot": os.getpid() % SLOTS, "total": total, "wrong": wrong}
    more = {"total": tallies.c.total + total, "wrong": tallies.c.wrong + wrong}
    statement: Any
    if connection.dialect.name in ("mysql", "mariadb"):
        statement = mysql.insert(tallies).values(values).on_duplicate_key_update(more)
    else:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        statement = insert(tallies).values(values)
        statement = statement.on_conflict_do_update(index_elements=["batch_id", "slot"], set_=more)
    connection.execute(statement)


def read(connection: Connection, tables: Tables, batch_id: str) -> tuple[int, int]:
    """All jobs known of a batch, and how many of them went wrong."""
    tallies = tables.tallies
    sums = select(func.coalesce(func.sum(tallies.c.total), 0), func.coalesce(func.sum(tallies.c.wrong), 0)).where(
        tallies.c.batch_id == batch_id
    )
    total, wrong = connection.execute(sums).one()
    return int(total), int(wrong)


def add_if_kept(connection: Connection, tables: Tables, batch_id: str, *, wrong: int) -> None:
    """Correct the tallies of a batch that has some; a batch that tolerates nothing has none."""
    if read(connection, tables, batch_id) != (0, 0):
        add(connection, tables, batch_id, wrong=wrong)


def forget_wrong(connection: Connection, tables: Tables, batch_id: str) -> None:
    """Begin again to count what goes wrong."""
    tallies = tables.tallies
    connection.execute(update(tallies).where(tallies.c.batch_id == batch_id).values(wrong=0))
