"""Enroll the jobs of a block, and of the blocks inside it: nothing -> ready, or waiting for their turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from celery_flows.store import batches, edges, jobs
from celery_flows.store.bulk import NewJob
from celery_flows.store.database import Connection
from celery_flows.store.edges import NewEdge
from celery_flows.store.tables import Tables
from celery_flows.transitions.admit import admit
from celery_flows.transitions.create import NewBatch, create
from celery_flows.transitions.grow import Grower, grow

__all__ = ["Grower", "Nested", "NewEdge", "NewJob", "Share", "enroll"]


class Share(NamedTuple):
    """One batch's part in an enrolment."""

    batch_id: str
    #: How many jobs it gets.
    jobs: int
    #: Whether it had not begun when its block was opened.
    starts: bool


class Nested(NamedTuple):
    """A flow inside another, which is planned when its turn comes."""

    #: The values of a `NewBatch`.
    batch: Sequence[Any]
    #: Whether that is now.
    begins: bool


def enroll(
    connection: Connection,
    tables: Tables,
    chunks: Iterable[Sequence[NewJob]],
    shares: Sequence[Share],
    *,
    waits: Iterable[Sequence[NewEdge]] = (),
    flows: Iterable[Sequence[Nested]] = (),
    grower: Grower | None = None,
) -> None:
    """Write all rows, then check each batch under its lock.

    Args:
        chunks: the jobs; read once per try of the transaction.
        shares: the batches that they belong to, children before their parents (the order of locks).
        waits: which of them waits for which.
        flows: the flows among them, whose row in their parent is one of the jobs.
        grower: the running job that adds them, if one does.

    Raises:
        BatchNotFound: one of the batches does not exist.
        BatchFinished: one of the batches is finished; nothing was written.
        BatchCancelled: one of the batches is cancelled; nothing was written.
        JobTaken: the job that adds them was given up meanwhile; nothing was written.
    """
    grow(connection, tables, chunks, grower)
    for some in waits:
        edges.add(connection, tables, some)
    for nested in (one for some in flows for one in some):
        batch = NewBatch(*nested.batch)
        create(connection, tables, batch)
        if nested.begins:
            batches.start(connection, tables, batch.id)
            jobs.start_child(connection, tables, batch.id)
    for share in shares:
        if share.jobs or share.starts:
            admit(connection, tables, share.batch_id, count=share.jobs, starts=share.starts)
