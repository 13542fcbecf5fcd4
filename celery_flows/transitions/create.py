"""Create a batch: nothing -> pending."""

from __future__ import annotations

from typing import NamedTuple

from celery_flows.states import Kind
from celery_flows.store import batches, memory
from celery_flows.store.bulk import NewJob
from celery_flows.store.database import Connection
from celery_flows.store.tables import Tables
from celery_flows.transitions.admit import admit
from celery_flows.transitions.grow import Grower, grow


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
    #: Of a flow: its class, by module and name.
    flow: str | None = None
    #: Whether its data is its own, rather than that of its parent.
    owns_memory: bool = False
    #: What the user calls it: one unfinished batch at a time.
    batch_key: str | None = None
    #: What was planned, as it is stored.
    plan: str | None = None

    @property
    def begins_run(self) -> bool:
        """Whether it has a memory of its own, for itself and what is inside it."""
        return self.owns_memory or self.parent_id is None


def create(connection: Connection, tables: Tables, batch: NewBatch) -> None:
    """Write a pending batch. Its row in its parent comes with `adopt`, or with the parent's block.

    Raises:
        BatchExists: an unfinished batch has its key.
    """
    values = batch._asdict()
    del values["owns_memory"]
    values["memory_id"] = (
        batch.id if batch.begins_run else memory.run_of(connection, tables, batch.parent_id or "")
    )
    batches.add(connection, tables, open_key=batch.batch_key, **values)


def adopt(
    connection: Connection, tables: Tables, parent_id: str, child_id: str, grower: Grower | None = None
) -> None:
    """Write the row that stands for a child batch in its parent.

    Args:
        grower: the job that does so: what waits for it waits for the child too.

    Raises:
        BatchFinished: the parent is finished.
        BatchCancelled: it is cancelled.
        JobTaken: the job was given up meanwhile.
    """
    child = NewJob(child_id, parent_id, Kind.BATCH, "", "[]", "{}", "{}")
    grow(connection, tables, [[child]], grower)
    admit(connection, tables, parent_id, count=1, starts=False)
