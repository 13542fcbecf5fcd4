"""Settle a job: it gets its one outcome, and what hangs on it moves on."""

from __future__ import annotations

from typing import Any

from celery_flows.codec import seal
from celery_flows.states import WRONG, JobState
from celery_flows.store import jobs, tallies
from celery_flows.store.database import Connection, Database
from celery_flows.store.executing import execute
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.relay import RELAYING, Relayed, relay
from celery_flows.store.statements import Asked
from celery_flows.store.tables import Tables
from celery_flows.transitions.finalize import advance, look, report
from celery_flows.transitions.lose import accept_late
from celery_flows.transitions.release import Released, release

__all__ = ["Relayed", "complete_within", "follow", "is_complete", "settle"]


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
    went_wrong = ending.state in WRONG
    # Where others wait for the job, there is something to be done before anything can be seen.
    behind = None if batch_id is None or ending.blocks else look(batch_id, went_wrong=went_wrong)
    relayed = _fail(database, ending, batch_id, behind) if went_wrong else _complete(database, ending, behind)
    return follow(database, ending.id, batch_id, announces_id, went_wrong=went_wrong, relayed=relayed)


def _complete(database: Database, ending: Ending, behind: Asked | None) -> Relayed:
    """Write a success, and look behind it."""
    values = _sealed(database.tables, ending)
    if ending.blocks and database.dialect in RELAYING:
        relayed = Relayed.stored(database.tables, database.run(relay, **values)[1])
        if relayed is not None:
            return relayed
    number, relayed = _end(database, (jobs.complete, values), behind)
    if number == 0 and ending.token is not None:
        accept_late(database, ending.id, ending.token, ending.result)
    return relayed


def _fail(database: Database, ending: Ending, batch_id: str | None, behind: Asked | None) -> Relayed:
    """Write that it went wrong, count that, and look behind it."""
    values = ending.values() | {"at_batch": batch_id, "at_slot": tallies.slot()}
    values["to_message"] = seal(database.tables.codec, values["to_message"])
    return _end(database, (jobs.fail, values), behind)[1]


def _end(database: Database, outcome: Asked, behind: Asked | None) -> tuple[int, Relayed]:
    (number, rows), *looks = database.run_in_turn(outcome, *([] if behind is None else [behind]))
    is_left = number == 0 or bool(rows and rows[0][0])
    return number, Relayed([], is_left, looks[0][1] if looks and not is_left else None)


def complete_within(connection: Connection, tables: Tables, ending: Ending) -> Relayed | None:
    """End a job as complete in a transaction that the caller commits; None: its claim no longer held."""
    values = _sealed(tables, ending)
    if ending.blocks and connection.dialect.name in RELAYING:
        relayed = Relayed.stored(tables, execute(connection, tables, relay, **values))
        if relayed is not None:
            return relayed
    statement = jobs.complete(tables, connection.dialect.name)
    ended = connection.execute(statement, values | {"to_result": ending.result})
    is_ended = ended.first() is not None if ended.returns_rows else ended.rowcount == 1
    return Relayed([], is_left=True) if is_ended else None


def _sealed(tables: Tables, ending: Ending) -> dict[str, Any]:
    """What a statement is given that goes straight to the driver, around the types that seal otherwise."""
    result = seal(tables.codec, ending.result)
    return {"at_id": ending.id, "at_delivery": ending.delivery, "at_token": ending.token, "to_result": result}


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
    relayed: Relayed | None = None,
) -> list[ReadyJob]:
    """See what hangs on a job whose outcome is committed.

    Args:
        went_wrong: it counts against its batch's tolerance.
        relayed: what the statement that ended it let go; None: nobody knows.

    Returns:
        Jobs and callbacks that became ready.
    """
    if announces_id is not None:
        return report(database, announces_id)
    if batch_id is None:
        return []
    is_left, ready = (True, []) if relayed is None else (relayed.is_left, relayed.ready)
    released = release(database, job_id) if is_left else Released([], went_wrong=False)
    ready = [*ready, *released.ready]
    went_wrong = went_wrong or released.went_wrong
    if not went_wrong and any(job.batch_id == batch_id for job in ready):
        # What has just become ready will end after this job, and whoever ends it looks after that.
        return ready
    seen = None if relayed is None else relayed.seen
    return [*ready, *advance(database, batch_id, went_wrong=went_wrong, seen=seen)]
