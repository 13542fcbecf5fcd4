"""Open and close a streaming block: a row that keeps its batch unfinished while jobs arrive."""

from __future__ import annotations

from celery_flows.codec import safe_text
from celery_flows.errors import EnrolmentAbandoned
from celery_flows.states import JobState, Kind
from celery_flows.store import jobs, leases
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.admit import admit
from celery_flows.transitions.finalize import Step, advance, finalize
from celery_flows.transitions.wrong import count_wrong


def open_stream(connection: Connection, tables: Tables, block_id: str, batch_id: str, *, starts: bool) -> None:
    """Write the block's row.

    Raises:
        BatchNotFound: there is no such batch.
        BatchFinished: it is finished.
        BatchCancelled: it is cancelled.
    """
    jobs.add_one(
        connection,
        tables,
        id=block_id,
        batch_id=batch_id,
        kind=Kind.BLOCK,
        state=JobState.RUNNING,
        token=block_id,
        # The producer holds a lease under the block's own id.
        worker_id=block_id,
    )
    admit(connection, tables, batch_id, count=0, starts=starts)


def check_stream(connection: Connection, tables: Tables, block_id: str, batch_id: str) -> None:
    """See that nobody has given up the block: the last statement of each of its chunks.

    Raises:
        EnrolmentAbandoned: its lease ran out, so the batch has failed without the rest.
    """
    if not jobs.hold_running(connection, tables, block_id):
        raise EnrolmentAbandoned(batch_id=batch_id, problem="its producer was not heard of for too long.")


def close_stream(database: Database, block_id: str, batch_id: str) -> list[ReadyJob]:
    """Take the block's row away: all that it had to enroll is enrolled.

    Raises:
        EnrolmentAbandoned: its lease ran out before.
    """
    database.transact(_close, database.tables, block_id, batch_id)
    # A tolerance that is a share of all jobs was not judged while the block was open.
    return advance(database, batch_id, went_wrong=True)


def abandon_stream(database: Database, block_id: str, batch_id: str, problem: str) -> list[ReadyJob]:
    """Let the block's row stand as failed: the batch is not what it was meant to be, whatever it tolerates."""
    error = EnrolmentAbandoned(batch_id=batch_id, problem=safe_text(problem))
    ending = Ending(block_id, JobState.FAILED, type(error).__name__, str(error), token=block_id)
    step = database.transact(_abandon, database.tables, ending, batch_id)
    above = [] if step.parent_id is None else advance(database, step.parent_id, went_wrong=True)
    # The batch's last job may have looked before this commit, and seen the block open.
    return [*step.ready, *above, *advance(database, batch_id)]


def _close(connection: Connection, tables: Tables, block_id: str, batch_id: str) -> None:
    # A second call finds no row; a row that has ended was abandoned.
    if jobs.find(connection, tables, block_id) is not None:
        check_stream(connection, tables, block_id, batch_id)
    jobs.remove(connection, tables, block_id)
    leases.end(connection, tables, block_id, 0)


def _abandon(connection: Connection, tables: Tables, ending: Ending, batch_id: str) -> Step:
    if jobs.end(connection, tables, ending):
        count_wrong(connection, tables, batch_id)
    leases.end(connection, tables, ending.id, 0)
    return finalize(connection, tables, batch_id)
