"""What is said to the database about jobs that wait for one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.sql import ClauseElement

from celery_flows.codec import seal
from celery_flows.states import BRANCHES, Condition, JobState, Takes
from celery_flows.store.executing import execute, execute_later
from celery_flows.store.given import insert_given, rows_given
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.statements import in_list, one_of, unhurried, word
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
    if edges and connection.dialect.name == "postgresql":
        execute_later(connection, tables, _insert_given, rows=rows_given(NewEdge._fields, edges))
    elif edges:
        connection.execute(insert(tables.edges), [{**edge._asdict(), "is_open": 1} for edge in edges])


def _insert_given(tables: Tables, dialect: str) -> Insert:
    return insert_given(tables.edges, NewEdge._fields, lambda _: {"is_open": literal_column("1")})


def close(tables: Tables, dialect: str) -> Update:
    """Note on its edges that the job `:at_id` has ended, if it has: a row of its own for each, so nobody waits."""
    edges, jobs = tables.edges, tables.jobs
    has_ended = select(jobs.c.id).where(jobs.c.id == bindparam("at_id"), jobs.c.outcome.is_not(None)).exists()
    mine = (edges.c.job_id == bindparam("at_id")) & (edges.c.is_open == 1)
    # What a crash of the database forgets of it is seen to again: the job's row says that it is to be.
    return unhurried(update(edges).where(mine, has_ended).values(is_open=literal_column("0")), dialect)


def forget_release(tables: Tables, dialect: str) -> ClauseElement:
    """Note that what waited for the job `:at_id` has been seen to.

    Not where it has edges that are open: then it was run again, and has perhaps ended again, while who says
    this was slow. That end is another's to see to, or the sweep's.
    """
    edges, jobs = tables.edges, tables.jobs
    is_open = exists().where(edges.c.job_id == bindparam("at_id"), edges.c.is_open == 1)
    return unhurried(
        update(jobs).where(jobs.c.id == bindparam("at_id"), ~is_open).values(releasing_since=null()), dialect
    )


def due(tables: Tables, dialect: str) -> Select[Any]:
    """Up to `:most` jobs, from behind the id `:after` on, that wait for `:at_id`, and for nothing else any more.

    The look for another open edge is made from the newest end, as the probe of a batch is.
    """
    edges, jobs = tables.edges, tables.jobs
    return (
        select(jobs.c.id)
        .join(edges, edges.c.dependent_id == jobs.c.id)
        .where(edges.c.job_id == bindparam("at_id"), jobs.c.id > bindparam("after"))
        .where(jobs.c.state == word(JobState.WAITING), _is_free(tables))
        .order_by(jobs.c.id)
        .limit(bindparam("most", type_=Integer()))
    )


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
    if len(ids) == 1:
        rows = execute(connection, tables, _hold_one, at_id=ids[0])
        return [(ReadyJob.stored(tables, row[:-1]), row[-1]) for row in rows]
    found = connection.execute(_hold(tables, in_list(connection, tables.jobs.c.id, ids))).all()
    return [(ReadyJob(*row[:-1]), row[-1]) for row in found]


def _hold_one(tables: Tables, dialect: str) -> Select[Any]:
    return _hold(tables, tables.jobs.c.id == bindparam("at_id"))


def _hold(tables: Tables, chosen: ColumnElement[bool]) -> Select[Any]:
    jobs = tables.jobs
    waiting = select(*ReadyJob.columns(tables), jobs.c.takes).where(chosen, jobs.c.state == word(JobState.WAITING))
    return waiting.order_by(jobs.c.id).with_for_update()


def judge(connection: Connection, tables: Tables, held: Sequence[tuple[ReadyJob, str | None]]) -> list[Verdict]:
    """See, in a statement after the lock, how all ended that these jobs waited for.

    A job that something is left to wait for is left out.
    """
    rows: Sequence[Any]
    if len(held) == 1:
        rows = execute(connection, tables, _how_ended_one, at_id=held[0][0].id)
    else:
        ids = [job.id for job, _ in held]
        rows = connection.execute(_how_ended(tables, in_list(connection, tables.edges.c.dependent_id, ids))).all()
    found = {row[0]: row[1:] for row in rows}
    return [
        # A branch for what goes wrong that nobody needs is no loss.
        Verdict(job, takes, not found[job.id][1], bool(found[job.id][2]) and not found[job.id][3])
        for job, takes in held
        if job.id in found and not found[job.id][0]
    ]


def _how_ended_one(tables: Tables, dialect: str) -> Select[Any]:
    return _how_ended(tables, tables.edges.c.dependent_id == bindparam("at_id"))


def _how_ended(tables: Tables, chosen: ColumnElement[bool]) -> Select[Any]:
    """By dependent: whether something is left to wait for, did not end as asked, went wrong, and is a branch."""
    edges, jobs = tables.edges, tables.jobs
    is_met, went_wrong = _is_met(tables), jobs.c.wrong == literal_column("1")
    is_wrong = and_(~is_met, edges.c.condition == word(Condition.COMPLETE), went_wrong)
    # Whatever is written on the edge: a job that runs again has not ended.
    is_left = or_(edges.c.is_open == literal_column("1"), jobs.c.outcome.is_(None))
    is_branch = one_of(edges.c.condition, BRANCHES)
    return (
        select(edges.c.dependent_id, *map(_any_of, (is_left, ~is_met, is_wrong, is_branch)))
        .join(jobs, jobs.c.id == edges.c.job_id)
        .where(chosen)
        .group_by(edges.c.dependent_id)
    )


def _any_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.max(case((condition, literal_column("1")), else_=literal_column("0")))


def _is_met(tables: Tables) -> ColumnElement[bool]:
    edges, jobs = tables.edges, tables.jobs
    condition, state = edges.c.condition, jobs.c.state
    missed = and_(state != word(JobState.COMPLETE), jobs.c.wrong == literal_column("1"))
    return or_(
        condition == word(Condition.SETTLED),
        and_(condition == word(Condition.COMPLETE), state == word(JobState.COMPLETE)),
        and_(condition == word(Condition.FAILURE), state == word(JobState.FAILED)),
        and_(condition == word(Condition.MISSED), missed),
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
    if args is not None:
        had = Takes.HAD_LIST if takes == Takes.LIST else Takes.HAD_ONE
        values = {"to_args": seal(tables.codec, args), "to_takes": str(had)}
        for job_id in ids:
            execute(connection, tables, _make_ready_with, at_id=job_id, **values)
    elif len(ids) == 1:
        execute(connection, tables, _make_one_ready, at_id=ids[0])
    else:
        connection.execute(becoming_ready(tables, in_list(connection, tables.jobs.c.id, ids)))


def _make_one_ready(tables: Tables, dialect: str) -> Update:
    return becoming_ready(tables, tables.jobs.c.id == bindparam("at_id"))


def _make_ready_with(tables: Tables, dialect: str) -> Update:
    return _make_one_ready(tables, dialect).values(args=bindparam("to_args"), takes=bindparam("to_takes"))


def becoming_ready(tables: Tables, chosen: ColumnElement[bool]) -> Update:
    """Let those be published that have waited."""
    jobs = tables.jobs
    return (
        update(jobs)
        .where(chosen)
        .values(
            state=word(JobState.READY),
            delivery=jobs.c.delivery + literal_column("1"),
            publishing_since=utcnow(),
        )
    )


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
