"""Count what goes wrong in a batch, in the transaction in which it does."""

from __future__ import annotations

from celery_flows.store import batches, tallies
from celery_flows.store.database import Connection
from celery_flows.store.tables import Tables
from celery_flows.tolerance import Tolerance


def count_wrong(connection: Connection, tables: Tables, batch_id: str, *, by: int = 1) -> None:
    """Add to what went wrong, where a batch tolerates something; else the rows themselves say it."""
    batch = batches.standing(connection, tables, batch_id)
    if batch is not None and not Tolerance.parse(batch.tolerate).is_none:
        tallies.add(connection, tables, batch_id, wrong=by)
