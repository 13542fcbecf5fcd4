"""Settle a job: it gets its one outcome, and what hangs on it moves on."""

from __future__ import annotations

from celery_flows.codec import seal
from celery_flows.states import WRONG, JobState
from celery_flows.store import jobs, tallies
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.finalize import advance, report
from celery_flows.transitions.lose import accept_late
from celery_flows.transitions.release import Released, release


def settle(
    database: Database, ending: Ending, *, batch_id: str | None = None, announces_id: str | None = None
) -> list[ReadyJob]:
    """Write the outcome, fenced; commit; then see whether the batch can be decided.

    The commit comes first: two jobs that end at once must each see the other ended, or each see that
    the other has yet to look. Called twice it writes nothing the second time, and looks again.

    Args:
        batch_id: the batch that the job belongs to.
        announces_id: or, for a callback, the batch that it announces.

    Returns:
        Callbacks that became ready.
    """
    if ending.state is JobState.COMPLETE:
        blocks = _complete(database, ending)
    else:
        blocks = _fail(database, ending, batch_id)
    went_wrong = ending.state in WRONG
    return follow(database, ending.id, batch_id, announces_id, went_wrong=went_wrong, blocks=blocks)


def _complete(database: Database, ending: Ending) -> bool:
    """Write a success; say whether others may wait for it."""
    # This statement goes straight to the driver, around the column types, which seal otherwise.
    result = seal(database.tables.codec, ending.result)
    fenced = {"at_id": ending.id, "at_delivery": ending.delivery, "at_token": ending.token}
    number, rows = database.run(jobs.complete, to_result=result, **fenced)
    if number == 0 and ending.token is not None:
        accept_late(database, ending.id, ending.token, ending.result)
    return number == 0 or bool(rows and rows[0][0])


def _fail(database: Database, ending: Ending, batch_id: str | None) -> bool:
    """Write that it went wrong, and count that; say whether others may wait for it."""
    values = ending.values()
    values["to_message"] = seal(database.tables.codec, values["to_message"])
    number, rows = database.run(jobs.fail, at_batch=batch_id, at_slot=tallies.slot(), **values)
    return number == 0 or bool(rows and rows[0][0])


def complete_within(
    connection: Connection, tables: Tables, job_id: str, delivery: int, token: str, result: str | None = None
) -> bool:
    """End a job as complete in a transaction that the caller commits; say whether its claim still held."""
    statement = jobs.complete(tables, connection.dialect.name)
    fenced = {"at_id": job_id, "at_delivery": delivery, "at_token": token, "to_result": result}
    ended = connection.execute(statement, fenced)
    return ended.first() is not None if ended.returns_rows else ended.rowcount == 1


def is_complete(database: Database, job_id: str, token: str) -> bool:
    """Whether a claim has ended its job as complete."""
    with database.reading() as connection:
        row = jobs.find(connection, database.tables, job_id)
    return row is not None and row.state == JobState.COMPLETE and row.token == token


def follow(
    database: Database,
    job_id: str,
    batch_id: str | None,
    announces_id: str | None,
    *,
    went_wrong: bool = False,
    blocks: bool = True,
) -> list[ReadyJob]:
    """See what hangs on a job whose outcome is committed.

    Args:
        went_wrong: it counts against its batch's tolerance.
        blocks: whether other jobs may wait for it.

    Returns:
        Jobs and callbacks that became ready.
    """
    if announces_id is not None:
        return report(database, announces_id)
    if batch_id is None:
        return []
    released = release(database, job_id) if blocks else Released([], went_wrong=False)
    went_wrong = went_wrong or released.went_wrong
    if not went_wrong and any(job.batch_id == batch_id for job in released.ready):
        # What has just become ready will end after this job, and whoever ends it looks after that.
        return released.ready
    return [*released.ready, *advance(database, batch_id, went_wrong=went_wrong)]
