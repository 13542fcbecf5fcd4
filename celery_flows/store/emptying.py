"""What is said to a database that is only for tests, between two of them."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from celery_flows.store.tables import Tables


def is_used(connection: Connection, tables: Tables) -> bool:
    """Whether there is a batch."""
    return connection.execute(select(tables.batches.c.id).limit(1)).first() is not None


def empty(connection: Connection, tables: Tables) -> None:
    """Delete every row of ours."""
    for table in tables.metadata.sorted_tables:
        connection.execute(delete(table))
