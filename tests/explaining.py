"""What tests of explain ask, and the workers that they tell it of."""

from __future__ import annotations

import re
from datetime import timedelta

import sqlalchemy as sa
from scenes import row

from celery_flows.ids import new_id
from celery_flows.queries.explain import Explanation, explain
from celery_flows.settings import Settings
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow
from celery_flows.transitions.claim import Holder, claim
from celery_flows.transitions.lease import renew
from celery_flows.transitions.recover import take_turn

SETTINGS = Settings(lease_timeout=60, heartbeat_interval=10, sweep_interval=15, requeue_after=600)

#: How a moment is printed.
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def why(database: Database, batch_id: str) -> Explanation:
    """Why a batch is not finished."""
    return explain(database, batch_id, SETTINGS)


def only_reason(database: Database, batch_id: str, what: str, held_by: str) -> str:
    """The one thing that holds a batch, which must be this; as it prints, without what and since when."""
    [reason] = why(database, batch_id).reasons
    assert (reason.what, reason.id) == (what, held_by)
    assert reason.since is not None
    assert re.fullmatch(f"{what} {held_by}( \\([a-z_.]+\\))?: .* since {MOMENT}\\. .*", str(reason))
    return f"{reason.state}: {reason.then}"


def on_worker(database: Database, job: str, silent: float = 0.0) -> str:
    """Run a job on a worker that has been silent for a while; the worker's id."""
    worker_id = new_id()
    renew(database, worker_id, "pod-7", 42, 60)
    assert claim(database, job, row(database, job).delivery, "t", Holder(worker_id, 60)) is not None
    let_be_heard(database, worker_id, silent)
    return worker_id


def let_be_heard(database: Database, worker_id: str, ago: float) -> None:
    """Let a worker have renewed its lease so many seconds ago."""
    _set(database, worker_id, "heartbeat_at", ago)


def hear_others(database: Database, since: float = 3600) -> None:
    """Let another worker be heard of, and somebody without a pause for so many seconds."""
    take_turn(database, 0)
    renew(database, "other", "pod-1", 1, 60)
    _set(database, "sweep", "started_at", since)


def _set(database: Database, worker_id: str, column: str, ago: float) -> None:
    def write(connection: Connection, tables: Tables) -> None:
        moment = connection.scalar(sa.select(utcnow())) - timedelta(seconds=ago)
        worker = tables.workers.update().where(tables.workers.c.id == worker_id)
        connection.execute(worker.values({column: moment}))

    database.transact(write, database.tables)
