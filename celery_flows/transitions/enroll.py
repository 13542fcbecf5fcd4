"""Enroll the jobs of a block, and of the blocks inside it: nothing -> ready."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from celery_flows.store.bulk import NewJob, add_jobs
from celery_flows.store.database import Connection
from celery_flows.store.tables import Tables
from celery_flows.transitions.admit import admit

__all__ = ["NewJob", "Share", "enroll"]


class Share(NamedTuple):
    """One batch's part in an enrolment."""

    batch_id: str
    #: How many jobs it gets.
    jobs: int
    #: Whether it had not begun when its block was opened.
    starts: bool


def enroll(
    connection: Connection, tables: Tables, chunks: Iterable[Sequence[NewJob]], shares: Sequence[Share]
) -> None:
    """Write all rows, then check each batch under its lock.

    Args:
        chunks: the jobs; read once per try of the transaction.
        shares: the batches that they belong to, children before their parents (the order of locks).

    Raises:
        BatchNotFound: one of the batches does not exist.
        BatchFinished: one of the batches is finished; nothing was written.
        BatchCancelled: one of the batches is cancelled; nothing was written.
    """
    add_jobs(connection, tables, chunks)
    for share in shares:
        if share.jobs or share.starts:
            admit(connection, tables, share.batch_id, count=share.jobs, starts=share.starts)
