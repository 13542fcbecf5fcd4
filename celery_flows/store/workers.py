"""What is said to the database about who does upkeep."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago, utcnow

#: The id of the row that is not a worker, but the turn at the sweep.
SWEEP: Final = "sweep"


def take_sweep_turn(connection: Connection, tables: Tables, interval: float) -> bool:
    """Take this interval's turn at the sweep; False where another process has it.

    A turn is a conditional UPDATE of one row: nothing is held while the sweep runs, so a sweeper
    that dies delays the next pass by one interval, and poolers such as PgBouncer don't mind.
    """
    workers = tables.workers
    me: dict[str, Any] = {"hostname": socket.gethostname()[:255], "pid": os.getpid(), "heartbeat_at": utcnow()}
    due = (workers.c.id == SWEEP) & (workers.c.heartbeat_at <= seconds_ago(interval))
    if connection.execute(update(workers).where(due).values(me)).rowcount == 1:
        return True
    if connection.execute(select(workers.c.id).where(workers.c.id == SWEEP)).first() is not None:
        return False
    try:
        with connection.begin_nested():
            connection.execute(insert(workers).values(id=SWEEP, started_at=utcnow(), **me))
    except IntegrityError:
        return False
    return True
