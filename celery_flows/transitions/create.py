"""Create a batch: nothing -> pending."""

from __future__ import annotations

from typing import NamedTuple

from celery_flows.states import JobState, Kind
from celery_flows.store import batches, jobs
from celery_flows.store.database import Connection
from celery_flows.store.tables import Tables
from celery_flows.transitions.admit import admit


class NewBatch(NamedTuple):
    """A batch to create; texts are as they are stored."""

    id: str
    kind: str
    description: str | None
    context: str
    tags: str
    tolerate: str
    parent_id: str | None
    on_loss: str | None = None


def create(connection: Connection, tables: Tables, batch: NewBatch) -> None:
    """Write a pending batch. Its row in its parent comes with `adopt`, or with the parent's block."""
    batches.add(connection, tables, **batch._asdict())


def adopt(connection: Connection, tables: Tables, parent_id: str, child_id: str) -> None:
    """Write the row that stands for a child batch in its parent.

    Raises:
        BatchFinished: the parent is finished.
        BatchCancelled: it is cancelled.
    """
    jobs.add_one(connection, tables, id=child_id, batch_id=parent_id, kind=Kind.BATCH, state=JobState.WAITING)
    admit(connection, tables, parent_id, count=1, starts=False)
