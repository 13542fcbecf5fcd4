"""What a job of a flow waits for before its turn comes."""

from __future__ import annotations

from typing import Any, Final

from celery_flows.store import edges
from celery_flows.store.database import Database

#: Jobs that are named.
_NAMED: Final = 5


def next_of_waiting(database: Database, row: Any, sweep_interval: float) -> str | None:
    """What has to happen before a waiting job's turn comes; None where it is no job of a flow.

    Args:
        row: the job's.
        sweep_interval: seconds between two sweeps.
    """
    with database.reading() as connection:
        if not edges.has_any(connection, database.tables, row.id):
            return None
        some = edges.waits_for(connection, database.tables, row.id, _NAMED + 1)
    if not some:
        return f"What it waited for has ended: the next sweep sees to it, within {sweep_interval:g} s."
    names = [f"{one.name or one.task or 'a join'} ({one.state})" for one in some[:_NAMED]]
    return f"It waits for {', '.join(names)}{' and others' if len(some) > _NAMED else ''}."
