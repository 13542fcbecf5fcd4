"""What is said to the database about jobs whose worker died."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, or_, select, update

from celery_flows.states import CLAIMABLE, JobState
from celery_flows.store.jobs import is_releasing
from celery_flows.store.publishing import ReadyJob, ready_where
from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow

_GIVEN_UP = (JobState.READY, JobState.QUEUED, JobState.FAILED)


class HeldJob(NamedTuple):
    """What decides about a lost job."""

    batch_id: str | None
    announces_id: str | None
    kind: str
    losses: int
    #: Whether its message is acknowledged only after it ran.
    is_late: bool
    #: What its task says, "fail" or "retry".
    on_loss: str | None
    #: What its batch says.
    batch_on_loss: str | None
    #: Whether it had begun.
    is_claimed: bool


class Holding(NamedTuple):
    """What the lost process had of a job."""

    job_id: str
    token: str
    #: The delivery whose message died with it, where that is known: then also a job that it had not claimed.
    delivery: int | None = None


def held(connection: Connection, tables: Tables, holding: Holding) -> HeldJob | None:
    """Read a job that is held so; None where that is over."""
    jobs, batches = tables.jobs, tables.batches
    columns = (jobs.c[name] for name in ("batch_id", "announces_id", "kind", "losses", "is_late", "on_loss"))
    said = select(batches.c.on_loss).where(batches.c.id == jobs.c.batch_id).scalar_subquery()
    row = connection.execute(select(*columns, said, jobs.c.state).where(_is_held(tables, holding))).one_or_none()
    if row is None:
        return None
    return HeldJob(row[0], row[1], row[2], row[3], bool(row[4]), row[5], row[6], row[7] == JobState.RUNNING)


def run_again(connection: Connection, tables: Tables, holding: Holding, losses: int) -> list[ReadyJob]:
    """Make a lost job ready, under the next delivery number; its token stays, for a success that comes late."""
    jobs = tables.jobs
    values = {"state": JobState.READY, "delivery": jobs.c.delivery + 1, "losses": losses, "worker_id": None}
    statement = update(jobs).where(_is_held(tables, holding))
    if connection.execute(statement.values(publishing_since=utcnow(), **values)).rowcount == 0:
        return []
    return ready_where(connection, tables, jobs.c.id == holding.job_id)


def fail(connection: Connection, tables: Tables, holding: Holding, losses: int, error: str, message: str) -> bool:
    """End a lost job as failed; say whether it was still held."""
    values = {"state": JobState.FAILED, "wrong": 1, "losses": losses, "worker_id": None, "expires_at": None}
    values |= {"error_class": error, "error_message": message, "releasing_since": is_releasing(tables)}
    values |= {"publishing_since": None}
    statement = update(tables.jobs).where(_is_held(tables, holding))
    return connection.execute(statement.values(ended_at=utcnow(), **values)).rowcount == 1


def given_up(connection: Connection, tables: Tables, job_id: str, token: str) -> Any | None:
    """Read a job that was given up while this claim held it, and that nobody has claimed since."""
    jobs = tables.jobs
    statement = select(jobs.c.state, jobs.c.batch_id, jobs.c.blocks).where(
        jobs.c.id == job_id, jobs.c.token == token, jobs.c.losses > 0, one_of(jobs.c.state, _GIVEN_UP)
    )
    return connection.execute(statement).one_or_none()


def complete(
    connection: Connection, tables: Tables, job_id: str, token: str, state: str, result: str | None = None
) -> bool:
    """End a job as complete that was given up too early, if it is still in the state in which it was found."""
    jobs = tables.jobs
    found = (JobState.FAILED,) if state == JobState.FAILED else (JobState.READY, JobState.QUEUED)
    mine = (jobs.c.id == job_id) & (jobs.c.token == token)
    values = {"state": JobState.COMPLETE, "wrong": 0, "error_class": None, "error_message": None}
    values |= {"publishing_since": None, "expires_at": None, "worker_id": None}
    values |= {"result": result, "releasing_since": is_releasing(tables)}
    statement = update(jobs).where(mine, one_of(jobs.c.state, found))
    return connection.execute(statement.values(ended_at=utcnow(), **values)).rowcount == 1


def _is_held(tables: Tables, holding: Holding) -> ColumnElement[bool]:
    jobs = tables.jobs
    claimed = (jobs.c.token == holding.token) & (jobs.c.state == JobState.RUNNING)
    unclaimed = (jobs.c.delivery == holding.delivery) & one_of(jobs.c.state, CLAIMABLE)
    return (jobs.c.id == holding.job_id) & (claimed if holding.delivery is None else or_(claimed, unclaimed))
