"""What is said to the database to run jobs of a flow again, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select, update

from celery_flows.codec import decode, encode
from celery_flows.states import TERMINAL, BatchState, JobState, Kind, Takes
from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables

#: Ids named in one statement.
_CHUNK = 500

_HAD = {Takes.HAD_ONE: Takes.ONE, Takes.HAD_LIST: Takes.LIST}


def downstream(
    connection: Connection, tables: Tables, seeds: Sequence[str], *, over_flows: bool = False
) -> list[str]:
    """The jobs that wait, or waited, for one of these, and those that wait for them, and so on.

    Args:
        over_flows: also flows inside that have run; else these are left out, with what waited for them.
    """
    edges, jobs, batches = tables.edges, tables.jobs, tables.batches
    has_run = exists().where(batches.c.id == jobs.c.id, batches.c.started_at.is_not(None))
    found, waiting = dict[str, None](), list(seeds)
    while waiting:
        some, waiting = waiting[:_CHUNK], waiting[_CHUNK:]
        statement = (
            select(edges.c.dependent_id)
            .join(jobs, jobs.c.id == edges.c.dependent_id)
            .where(edges.c.job_id.in_(some))
            .distinct()
        )
        if not over_flows:
            statement = statement.where(~and_(jobs.c.kind == Kind.BATCH, has_run))
        new = [one for one in connection.scalars(statement) if one not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return list(found)


def seeds(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """Jobs of a batch for which others waited, and which went wrong."""
    jobs = tables.jobs
    wrong = one_of(jobs.c.outcome, (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED))
    statement = select(jobs.c.id).where(jobs.c.batch_id == batch_id, wrong, jobs.c.blocks == 1)
    return list(connection.scalars(statement.where(or_(jobs.c.wrong == 1, jobs.c.outcome == JobState.CANCELLED))))


def return_results(connection: Connection, tables: Tables, chosen: ColumnElement[bool]) -> None:
    """Take results of earlier jobs out of the arguments again: there will be others."""
    jobs = tables.jobs
    had = select(jobs.c.id, jobs.c.args, jobs.c.takes).where(chosen, one_of(jobs.c.takes, tuple(_HAD)))
    for job_id, args, takes in connection.execute(had).all():
        own = encode(decode(args)[1:])
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(args=own, takes=_HAD[Takes(takes)]))


def open_edges(connection: Connection, tables: Tables, batch_id: str) -> None:
    """Open the edges of a batch again that come from jobs which are to end again."""
    edges, jobs = tables.edges, tables.jobs
    unended = select(jobs.c.id).where(jobs.c.batch_id == batch_id, ~one_of(jobs.c.state, TERMINAL))
    # None that is open: it is perhaps being closed by the end of its job, and would be open again after that.
    closed = update(edges).where(edges.c.job_id.in_(unended), edges.c.is_open == 0)
    connection.execute(closed.values(is_open=1))


def wait_in_order(connection: Connection, tables: Tables, batch_id: str, ids: Sequence[str] | None = None) -> None:
    """Let ready jobs of a batch wait that ever waited for others, all or these: they are judged by them again."""
    jobs = tables.jobs
    ready = update(jobs).where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None), has_edge(tables))
    ready = ready.where(jobs.c.state == JobState.READY).values(state=JobState.WAITING, publishing_since=None)
    if ids is None:
        connection.execute(ready)
        return
    for first in range(0, len(ids), _CHUNK):
        connection.execute(ready.where(jobs.c.id.in_(ids[first : first + _CHUNK])))


def has_edge(tables: Tables) -> ColumnElement[bool]:
    """Whether a job waits for others, or did."""
    return exists().where(tables.edges.c.dependent_id == tables.jobs.c.id)


def has_open_edge(tables: Tables) -> ColumnElement[bool]:
    """Whether a job has something to wait for."""
    return exists().where(tables.edges.c.dependent_id == tables.jobs.c.id, tables.edges.c.is_open == 1)


def must_wait(connection: Connection, tables: Tables, job_id: str) -> bool:
    """Whether a job has something to wait for."""
    jobs = tables.jobs
    return connection.scalar(select(jobs.c.id).where(jobs.c.id == job_id, has_open_edge(tables))) is not None


def hold_back(connection: Connection, tables: Tables, batch_id: str) -> None:
    """Let a flow inside another wait for its turn, as if it had not begun, with all that would begin in it."""
    jobs, batches = tables.jobs, tables.batches
    ready = update(jobs).where(jobs.c.batch_id == batch_id, jobs.c.state == JobState.READY)
    connection.execute(ready.values(state=JobState.WAITING, publishing_since=None))
    connection.execute(update(jobs).where(jobs.c.id == batch_id).values(state=JobState.WAITING))
    values = {"state": BatchState.PENDING, "started_at": None}
    connection.execute(update(batches).where(batches.c.id == batch_id).values(values))


class Unbegun(NamedTuple):
    """A flow inside another whose turn had not come when that ended."""

    id: str
    state: str
    is_wrong: bool


def unbegun(connection: Connection, tables: Tables, batch_id: str) -> list[Unbegun]:
    """The flows inside a batch whose turn had not come when it ended."""
    jobs, batches = tables.jobs, tables.batches
    statement = (
        select(jobs.c.id, jobs.c.state, jobs.c.wrong)
        .join(batches, batches.c.id == jobs.c.id)
        .where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_not(None), batches.c.started_at.is_(None))
        .where(batches.c.flow.is_not(None))
    )
    return [Unbegun(row[0], row[1], bool(row[2])) for row in connection.execute(statement.order_by(jobs.c.id))]


def rewind(connection: Connection, tables: Tables, child_id: str) -> None:
    """Let a flow wait again whose turn had not come, with what is in it; what was planned stays planned."""
    for below in unbegun(connection, tables, child_id):
        rewind(connection, tables, below.id)
    jobs, batches = tables.jobs, tables.batches
    fresh = {"state": JobState.WAITING, "wrong": 0, "ended_at": None, "releasing_since": None}
    connection.execute(update(jobs).where(jobs.c.id == child_id).values(fresh))
    ended = one_of(jobs.c.outcome, (JobState.SKIPPED, JobState.CANCELLED))
    connection.execute(update(jobs).where(jobs.c.batch_id == child_id, ended).values(fresh))
    now = select(batches.c.round).where(batches.c.id == child_id).scalar_subquery()
    callback = (jobs.c.announces_id == child_id) & (jobs.c.round == now)
    connection.execute(update(jobs).where(callback, ended).values(fresh))
    values = {
        "state": BatchState.PENDING,
        "completed_at": None,
        "settled_at": None,
        "open_key": batches.c.batch_key,
    }
    connection.execute(update(batches).where(batches.c.id == child_id).values(values))


def due(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """The jobs of a batch that have waited for others, and wait for nothing any more."""
    jobs = tables.jobs
    mine = (jobs.c.batch_id == batch_id) & (jobs.c.state == JobState.WAITING)
    statement = select(jobs.c.id).where(mine, has_edge(tables), ~has_open_edge(tables))
    return list(connection.scalars(statement.order_by(jobs.c.id)))


def unreleased(connection: Connection, tables: Tables, batch_id: str) -> list[str]:
    """The jobs of a batch that have ended, and whose dependents nobody has seen to."""
    jobs = tables.jobs
    ended = (jobs.c.batch_id == batch_id) & jobs.c.outcome.is_not(None) & jobs.c.releasing_since.is_not(None)
    return list(connection.scalars(select(jobs.c.id).where(ended).order_by(jobs.c.id)))
