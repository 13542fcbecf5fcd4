"""What is said to the database about the memory of runs, a row per key, or per key and job that has a share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, false, func, or_, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from celery_flows.merging import AFTER_MARK, MARK
from celery_flows.store.tables import Tables


class Run(NamedTuple):
    """Whose memory a batch uses."""

    id: str
    #: What sort of batch that is.
    kind: str


def run_of(connection: Connection, tables: Tables, batch_id: str) -> str:
    """The run whose memory a batch uses."""
    batches = tables.batches
    found = select(func.coalesce(batches.c.memory_id, batches.c.id)).where(batches.c.id == batch_id)
    return connection.scalar(found) or batch_id


def find_run(connection: Connection, tables: Tables, batch_id: str) -> Run:
    """The run whose memory a batch uses, and its kind."""
    run = tables.batches.alias()
    run_id = run_of(connection, tables, batch_id)
    return Run(run_id, connection.scalar(select(run.c.kind).where(run.c.id == run_id)) or "")


def read(
    connection: Connection, tables: Tables, run_id: str, keys: Collection[str] | None = None
) -> dict[str, str]:
    """What a run's memory holds under these keys, or under all: as it is stored, shares apart."""
    memory = tables.memory
    statement = select(memory.c.name, memory.c.value).where(memory.c.run_id == run_id).order_by(memory.c.name)
    if keys is not None:
        statement = statement.where(or_(false(), *(_under(memory, key) for key in keys)))
    return {row.name: row.value for row in connection.execute(statement)}


def _under(memory: Any, key: str) -> Any:
    shares = and_(memory.c.name > key + MARK, memory.c.name < key + AFTER_MARK)
    return or_(memory.c.name == key, shares)


def size(connection: Connection, tables: Tables, run_id: str) -> int:
    """How many characters a run's memory has; it is stored as ASCII."""
    memory = tables.memory
    counted = select(func.coalesce(func.sum(func.length(memory.c.value)), 0)).where(memory.c.run_id == run_id)
    return int(connection.scalar(counted) or 0)


def count(connection: Connection, tables: Tables, run_id: str, at_most: int) -> int:
    """How many rows a run's memory has, counted no further than to a limit."""
    memory = tables.memory
    some = select(memory.c.run_id).where(memory.c.run_id == run_id).limit(at_most).subquery()
    return int(connection.scalar(select(func.count()).select_from(some)) or 0)


def write(connection: Connection, tables: Tables, run_id: str, values: Mapping[str, str | None]) -> None:
    """Write keys, None deleting one with its shares: in their order, so that writers do not deadlock."""
    for name in sorted(values):
        value = values[name]
        if value is None:
            memory = tables.memory
            connection.execute(delete(memory).where(memory.c.run_id == run_id, _under(memory, name)))
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
