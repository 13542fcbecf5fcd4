"""What is said to the database about the callbacks of batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Update, bindparam, exists, or_, select, update

from celery_flows.states import JobState
from celery_flows.store.executing import execute, execute_later
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.statements import word
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow


def is_pending(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether a callback of the batch has not ended."""
    jobs = tables.jobs
    return bool(
        connection.scalar(select(exists().where(jobs.c.announces_id == batch_id, jobs.c.outcome.is_(None))))
    )


class Waiting(NamedTuple):
    """A callback that waits for its event."""

    event: str
    job: ReadyJob


def all_waiting(connection: Connection, tables: Tables, batch_id: str) -> list[Waiting]:
    """Read the callbacks of a batch that wait. The caller holds the batch's row."""
    return stored_waiting(tables, execute(connection, tables, waiting, at_batch=batch_id))


def stored_waiting(tables: Tables, rows: Sequence[Any]) -> list[Waiting]:
    """Read them from what a statement gave."""
    return [Waiting(row[-1], ReadyJob.stored(tables, row[:-1])) for row in rows]


def arm(
    connection: Connection,
    tables: Tables,
    batch_id: str,
    found: Sequence[Waiting],
    events: Sequence[str],
    *,
    are_last: bool = False,
) -> list[ReadyJob]:
    """Make the callbacks of one or two events ready for publishing.

    Args:
        found: all of the batch that wait.
        are_last: whether the callbacks of others end, as their event will not come.
    """
    due = [one.job for one in found if one.event in events]
    if due:
        execute_later(connection, tables, _arm, at_batch=batch_id, at_event=events[0], or_event=events[-1])
    if are_last and len(due) < len(found):
        execute_later(connection, tables, _skip, at_batch=batch_id)
    return [job._replace(state=JobState.READY) for job in due]


def waiting(tables: Tables, dialect: str) -> Select[Any]:
    """Read the callbacks of the batch `:at_batch` that wait."""
    jobs = tables.jobs
    return select(*ReadyJob.columns(tables), jobs.c.event).where(_is_waiting(tables)).order_by(jobs.c.id)


def _arm(tables: Tables, dialect: str) -> Update:
    jobs = tables.jobs
    is_due = or_(jobs.c.event == bindparam("at_event"), jobs.c.event == bindparam("or_event"))
    waiting = update(jobs).where(_is_waiting(tables), is_due)
    return waiting.values(state=word(JobState.READY), publishing_since=utcnow())


def _skip(tables: Tables, dialect: str) -> Update:
    waiting = update(tables.jobs).where(_is_waiting(tables))
    return waiting.values(state=word(JobState.SKIPPED), ended_at=utcnow())


def _is_waiting(tables: Tables) -> ColumnElement[bool]:
    jobs = tables.jobs
    return (jobs.c.announces_id == bindparam("at_batch")) & (jobs.c.state == word(JobState.WAITING))


def join_round(connection: Connection, tables: Tables, callback_id: str, round_: int) -> None:
    """Let a new callback belong to a later round than the first."""
    jobs = tables.jobs
    connection.execute(update(jobs).where(jobs.c.id == callback_id).values(round=round_))
