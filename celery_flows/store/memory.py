"""What is said to the database about the data of runs, a row per key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from celery_flows.store.tables import Tables


def run_of(connection: Connection, tables: Tables, batch_id: str) -> str:
    """The run whose data a batch uses."""
    batches = tables.batches
    found = select(func.coalesce(batches.c.memory_id, batches.c.id)).where(batches.c.id == batch_id)
    return connection.scalar(found) or batch_id


def read(connection: Connection, tables: Tables, run_id: str) -> dict[str, str]:
    """All data of a run."""
    memory = tables.memory
    statement = select(memory.c.name, memory.c.value).where(memory.c.run_id == run_id).order_by(memory.c.name)
    return {row.name: row.value for row in connection.execute(statement)}


def write(connection: Connection, tables: Tables, run_id: str, values: Mapping[str, str | None]) -> None:
    """Write keys, None deleting one, in their order: who writes several at once waits, and does not deadlock."""
    for name in sorted(values):
        value = values[name]
        if value is None:
            memory = tables.memory
            connection.execute(delete(memory).where(memory.c.run_id == run_id, memory.c.name == name))
        else:
            _put(connection, tables, {"run_id": run_id, "name": name, "value": value, "version": 1})


def _put(connection: Connection, tables: Tables, row: dict[str, Any]) -> None:
    memory = tables.memory
    statement: Any
    if connection.dialect.name in ("mysql", "mariadb"):
        statement = mysql.insert(memory).values(row)
        more = {"value": statement.inserted.value, "version": memory.c.version + 1}
        statement = statement.on_duplicate_key_update(more)
    else:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        statement = insert(memory).values(row)
        more = {"value": statement.excluded.value, "version": memory.c.version + 1}
        statement = statement.on_conflict_do_update(index_elements=["run_id", "name"], set_=more)
    connection.execute(statement)


def forget(connection: Connection, tables: Tables, run_ids: Sequence[str]) -> None:
    """Delete the data of runs."""
    memory = tables.memory
    connection.execute(delete(memory).where(memory.c.run_id.in_(run_ids)))
