"""Settle a job: it gets its one outcome, and what hangs on it moves on."""

from __future__ import annotations

from celery_flows.states import WRONG, JobState
from celery_flows.store import jobs
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending, ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.finalize import advance, count_wrong, report
from celery_flows.transitions.lose import accept_late


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
        fenced = {"at_id": ending.id, "at_delivery": ending.delivery, "at_token": ending.token}
        if database.run(jobs.complete, **fenced)[0] == 0 and ending.token is not None:
            accept_late(database, ending.id, ending.token)
    else:
        database.transact(_end, database.tables, ending, batch_id)
    return follow(database, batch_id, announces_id, went_wrong=ending.state in WRONG)


def complete_within(connection: Connection, tables: Tables, job_id: str, delivery: int, token: str) -> bool:
    """End a job as complete in a transaction that the caller commits; say whether its claim still held."""
    statement = jobs.complete(tables, connection.dialect.name)
    fenced = {"at_id": job_id, "at_delivery": delivery, "at_token": token}
    return connection.execute(statement, fenced).rowcount == 1


def is_complete(database: Database, job_id: str, token: str) -> bool:
    """Whether a claim has ended its job as complete."""
    with database.reading() as connection:
        row = jobs.find(connection, database.tables, job_id)
    return row is not None and row.state == JobState.COMPLETE and row.token == token


def follow(
    database: Database, batch_id: str | None, announces_id: str | None, *, went_wrong: bool = False
) -> list[ReadyJob]:
    """See what hangs on a job whose outcome is committed.

    Returns:
        Callbacks that became ready.
    """
    if announces_id is not None:
        return report(database, announces_id)
    return advance(database, batch_id, went_wrong=went_wrong) if batch_id is not None else []


def _end(connection: Connection, tables: Tables, ending: Ending, batch_id: str | None) -> None:
    if jobs.end(connection, tables, ending) and batch_id is not None and ending.state in WRONG:
        count_wrong(connection, tables, batch_id)
