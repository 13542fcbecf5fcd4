"""What is said to the database about jobs that wait for one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.sql import ClauseElement

from celery_flows.states import BRANCHES, Condition, JobState, Takes
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago, utcnow

#: Ids named in one statement.
_CHUNK: Final = 500


class NewEdge(NamedTuple):
    """One job waits for another, before it is a row."""

    job_id: str
    dependent_id: str
    condition: str
    position: int | None = None


class Verdict(NamedTuple):
    """A job for which nothing is left to wait, and whether its turn comes."""

    job: ReadyJob
    #: Whether its result comes before others' arguments, and in which way those of others come before its own.
    takes: str | None
    #: Whether all ended as it asks.
    is_due: bool
    #: Whether it is skipped because something went wrong, rather than because its branch was not needed.
    is_wrong: bool


def add(connection: Connection, tables: Tables, edges: Sequence[NewEdge]) -> None:
    """Write edges, open."""
    if edges:
        connection.execute(insert(tables.edges), [{**edge._asdict(), "is_open": 1} for edge in edges])


def close(tables: Tables, dialect: str) -> Update:
    """Note on its edges that the job `:at_id` has ended, if it has: a row of its own for each, so nobody waits."""
    edges, jobs = tables.edges, tables.jobs
    has_ended = select(jobs.c.id).where(jobs.c.id == bindparam("at_id"), jobs.c.outcome.is_not(None)).exists()
    mine = (edges.c.job_id == bindparam("at_id")) & (edges.c.is_open == 1)
    return update(edges).where(mine, has_ended).values(is_open=0)


def forget_release(tables: Tables, dialect: str) -> ClauseElement:
    """Note that what waited for the job `:at_id` has been seen to.

    Not where it has edges that are open: then it was run again, and has perhaps ended again, while who says
    this was slow. That end is another's to see to, or the sweep's.
    """
    edges, jobs = tables.edges, tables.jobs
    is_open = exists().where(edges.c.job_id == bindparam("at_id"), edges.c.is_open == 1)
    return update(jobs).where(jobs.c.id == bindparam("at_id"), ~is_open).values(releasing_since=None)


def due(connection: Connection, tables: Tables, job_id: str, after: str, limit: int) -> list[str]:
    """Jobs, from behind an id on, that wait for this one, and for nothing else any more.

    The look for another open edge is made from the newest end, as the probe of a batch is.
    """
    edges, jobs = tables.edges, tables.jobs
    statement = (
        select(jobs.c.id)
        .join(edges, edges.c.dependent_id == jobs.c.id)
        .where(edges.c.job_id == job_id, jobs.c.id > after)
        .where(jobs.c.state == word(JobState.WAITING), _is_free(tables))
        .order_by(jobs.c.id)
        .limit(limit)
    )
    return list(connection.scalars(statement))


def _is_free(tables: Tables) -> ColumnElement[bool]:
    other = tables.edges.alias("other")
    newest = (
        select(other.c.job_id)
        .where(other.c.dependent_id == tables.jobs.c.id, other.c.is_open == 1)
        .order_by(other.c.is_open.desc(), other.c.job_id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return newest.is_(None)


def hold_waiting(connection: Connection, tables: Tables, ids: Sequence[str]) -> list[tuple[ReadyJob, str | None]]:
    """Lock those of these jobs that wait, in order of id; each with the way in which it takes results."""
    jobs = tables.jobs
    statement = select(*ReadyJob.columns(tables), jobs.c.takes).where(
        jobs.c.id.in_(ids), jobs.c.state == JobState.WAITING
    )
    rows = connection.execute(statement.order_by(jobs.c.id).with_for_update()).all()
    return [(ReadyJob(*row[:-1]), row[-1]) for row in rows]


def judge(connection: Connection, tables: Tables, held: Sequence[tuple[ReadyJob, str | None]]) -> list[Verdict]:
    """See, in a statement after the lock, how all ended that these jobs waited for.

    A job that something is left to wait for is left out.
    """
    edges, jobs = tables.edges, tables.jobs
    unmet = case((_is_met(tables), 0), else_=1)
    branch = case((one_of(edges.c.condition, BRANCHES), 1), else_=0)
    wrong = case((and_(~_is_met(tables), edges.c.condition == Condition.COMPLETE, jobs.c.wrong == 1), 1), else_=0)
    # Whatever is written on the edge: a job that runs again has not ended.
    left = case((or_(edges.c.is_open == 1, jobs.c.outcome.is_(None)), 1), else_=0)
    statement = (
        select(edges.c.dependent_id, func.max(left), func.max(unmet), func.max(wrong), func.max(branch))
        .join(jobs, jobs.c.id == edges.c.job_id)
        .where(edges.c.dependent_id.in_([job.id for job, _ in held]))
        .group_by(edges.c.dependent_id)
    )
    found = {row[0]: row[1:] for row in connection.execute(statement)}
    return [
        # A branch for what goes wrong that nobody needs is no loss.
        Verdict(job, takes, not found[job.id][1], bool(found[job.id][2]) and not found[job.id][3])
        for job, takes in held
        if job.id in found and not found[job.id][0]
    ]


def _is_met(tables: Tables) -> ColumnElement[bool]:
    edges, jobs = tables.edges, tables.jobs
    return or_(
        edges.c.condition == Condition.SETTLED,
        and_(edges.c.condition == Condition.COMPLETE, jobs.c.state == JobState.COMPLETE),
        and_(edges.c.condition == Condition.FAILURE, jobs.c.state == JobState.FAILED),
        and_(edges.c.condition == Condition.MISSED, jobs.c.state != JobState.COMPLETE, jobs.c.wrong == 1),
    )


def results(connection: Connection, tables: Tables, dependent_id: str) -> list[str | None]:
    """The results that a job takes, in their order."""
    edges, jobs = tables.edges, tables.jobs
    statement = (
        select(jobs.c.result)
        .join(edges, edges.c.job_id == jobs.c.id)
        .where(edges.c.dependent_id == dependent_id, edges.c.position.is_not(None))
        .order_by(edges.c.position)
    )
    return list(connection.scalars(statement))


def make_ready(
    connection: Connection, tables: Tables, ids: Sequence[str], args: str | None = None, takes: str | None = None
) -> None:
    """Let jobs be published that have waited; with other arguments, where they took results."""
    jobs = tables.jobs
    values: dict[str, Any] = {
        "state": JobState.READY,
        "delivery": jobs.c.delivery + 1,
        "publishing_since": utcnow(),
    }
    if args is not None:
        values |= {"args": args, "takes": Takes.HAD_LIST if takes == Takes.LIST else Takes.HAD_ONE}
    connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(values))


def end_waiting(
    connection: Connection,
    tables: Tables,
    ids: Sequence[str],
    state: JobState,
    *,
    wrong: bool = False,
    result: str | None = None,
) -> None:
    """End jobs that have waited: joins as complete, others as skipped; what waits for them is to be seen to."""
    jobs = tables.jobs
    releasing = case((jobs.c.blocks == 1, utcnow()))
    values = {"state": state, "wrong": int(wrong), "result": result, "expires_at": None, "ended_at": utcnow()}
    connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(releasing_since=releasing, **values))


def dependents(connection: Connection, tables: Tables, job_id: str) -> list[NewEdge]:
    """The edges from a job."""
    edges = tables.edges
    statement = select(edges.c.job_id, edges.c.dependent_id, edges.c.condition).where(edges.c.job_id == job_id)
    return [NewEdge(*row) for row in connection.execute(statement.order_by(edges.c.dependent_id))]


def above(connection: Connection, tables: Tables, ids: Sequence[str]) -> set[str]:
    """These jobs, and all that they still wait for, themselves or over others."""
    edges, found, left = tables.edges, set(ids), list(ids)
    while left:
        some, left = left[:_CHUNK], left[_CHUNK:]
        before = select(edges.c.job_id).where(edges.c.dependent_id.in_(some), edges.c.is_open == 1).distinct()
        new = set(connection.scalars(before)) - found
        found |= new
        left += new
    return found


def among(connection: Connection, tables: Tables, batch_id: str, ids: Sequence[str]) -> set[str]:
    """Those of these jobs that are of a batch."""
    jobs = tables.jobs
    return set(connection.scalars(select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.id.in_(ids))))


def let_block(connection: Connection, tables: Tables, ids: Sequence[str]) -> list[str]:
    """Note, under their locks, that others wait for these jobs; those that have ended already."""
    jobs = tables.jobs
    for job_id in sorted(ids):
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(blocks=1))
    ended = select(jobs.c.id).where(jobs.c.id.in_(ids), jobs.c.outcome.is_not(None))
    return list(connection.scalars(ended.order_by(jobs.c.id)))


def close_from(connection: Connection, tables: Tables, job_ids: Sequence[str], dependents: Sequence[str]) -> None:
    """Close the edges to jobs from those that had ended before they were added."""
    edges = tables.edges
    mine = edges.c.dependent_id.in_(dependents) & edges.c.job_id.in_(job_ids)
    connection.execute(update(edges).where(mine).values(is_open=0))


def unreleased(connection: Connection, tables: Tables, age: float, limit: int) -> list[str]:
    """Jobs that ended `age` seconds ago, and whose dependents nobody has seen to."""
    jobs = tables.jobs
    left = jobs.c.releasing_since.is_not(None) & (jobs.c.releasing_since <= seconds_ago(age))
    return list(connection.scalars(select(jobs.c.id).where(left).order_by(jobs.c.releasing_since).limit(limit)))


def culprit(connection: Connection, tables: Tables, job_id: str) -> str | None:
    """The first of those that a skipped job waited for which went wrong; None: it was not needed."""
    edges, jobs = tables.edges, tables.jobs
    statement = (
        select(jobs.c.id)
        .join(edges, edges.c.job_id == jobs.c.id)
        .where(edges.c.dependent_id == job_id, jobs.c.wrong == 1, jobs.c.state != JobState.COMPLETE)
        .order_by(edges.c.position, jobs.c.id)
        .limit(1)
    )
    found: str | None = connection.scalar(statement)
    return found


def waits_for(connection: Connection, tables: Tables, job_id: str, limit: int) -> Sequence[Any]:
    """What a job still waits for: rows of jobs that have not ended."""
    edges, jobs = tables.edges, tables.jobs
    statement = (
        select(jobs.c.id, jobs.c.name, jobs.c.task, jobs.c.state)
        .join(edges, edges.c.job_id == jobs.c.id)
        .where(edges.c.dependent_id == job_id, edges.c.is_open == 1)
        .order_by(jobs.c.id)
        .limit(limit)
    )
    return connection.execute(statement).all()


def has_any(connection: Connection, tables: Tables, job_id: str) -> bool:
    """Whether a job waits, or has waited, for another."""
    edges = tables.edges
    found = select(edges.c.job_id).where(edges.c.dependent_id == job_id).limit(1)
    return connection.scalar(found) is not None


def nothing_moved(connection: Connection, tables: Tables, job_id: str) -> bool:
    """Whether nothing that waits for a job has moved: each dependent is locked, and waits still."""
    edges, jobs = tables.edges, tables.jobs
    found = select(edges.c.dependent_id).where(edges.c.job_id == job_id)
    states = select(jobs.c.state).where(jobs.c.id.in_(found)).order_by(jobs.c.id).with_for_update()
    return all(state == JobState.WAITING for state in connection.scalars(states))
