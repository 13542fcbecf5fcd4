"""What is said to the database to open a new round of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, insert, or_, select, update

from celery_flows.codec import decode, encode
from celery_flows.states import WRONG, BatchState, JobState, Kind
from celery_flows.store import rerunning
from celery_flows.store.batches import claim_key
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import utcnow

#: What a job has from the round before, and begins without.
_FRESH: Final[dict[str, Any]] = {
    "wrong": 0,
    "losses": 0,
    "token": None,
    "worker_id": None,
    "queued_at": None,
    "expires_at": None,
    "error_class": None,
    "error_message": None,
    "ended_at": None,
    "releasing_since": None,
    "result": None,
}

#: Rows changed by one statement.
_CHUNK: Final = 500


class ChildStanding(NamedTuple):
    """How a child batch stands, for the row that stands for it in its parent."""

    id: str
    state: BatchState
    #: Whether it is finished and its callbacks have ended.
    is_over: bool

    @property
    def is_wrong(self) -> bool:
        """Whether it counts against its parent's tolerance."""
        return self.state is BatchState.FAILED or (self.is_over and self.state is BatchState.CANCELLED)


def undo(
    connection: Connection, tables: Tables, batch_id: str, outcomes: Sequence[JobState], *, unneeded: bool
) -> None:
    """Make the jobs of a batch that ended so ready again, under the next delivery number.

    What was planned stays planned.

    Args:
        unneeded: also those that were skipped because their branch was not needed.
    """
    jobs = tables.jobs
    plans = and_(jobs.c.kind == Kind.PLAN, jobs.c.state != JobState.COMPLETE)
    calls = or_(one_of(jobs.c.kind, (Kind.TASK, Kind.JOIN)), plans)
    ended = one_of(jobs.c.outcome, outcomes)
    if not unneeded:
        ended = and_(ended, or_(jobs.c.outcome != JobState.SKIPPED, jobs.c.wrong == 1))
    _undo(connection, tables, and_(jobs.c.batch_id == batch_id, ended, calls))


def undo_jobs(connection: Connection, tables: Tables, ids: Sequence[str], outcomes: Sequence[JobState]) -> None:
    """Make those of these jobs ready again that ended so."""
    jobs = tables.jobs
    for first in range(0, len(ids), _CHUNK):
        some = jobs.c.id.in_(ids[first : first + _CHUNK])
        calls = one_of(jobs.c.kind, (Kind.TASK, Kind.JOIN))
        _undo(connection, tables, and_(some, one_of(jobs.c.outcome, outcomes), calls))


def _undo(connection: Connection, tables: Tables, chosen: ColumnElement[bool]) -> None:
    jobs = tables.jobs
    _renew_options(connection, tables, chosen)
    rerunning.return_results(connection, tables, chosen)
    is_join = jobs.c.kind == Kind.JOIN
    values = {
        **_FRESH,
        "delivery": jobs.c.delivery + 1,
        "publishing_since": case((is_join, None), else_=utcnow()),
        # The last, as MySQL assigns from left to right, and `chosen` may depend on it.
        "state": case((is_join, word(JobState.WAITING)), else_=word(JobState.READY)),
    }
    connection.execute(update(jobs).where(chosen).values(values))


def _renew_options(connection: Connection, tables: Tables, chosen: Any) -> None:
    jobs, after = tables.jobs, ""
    options = select(jobs.c.id, jobs.c.options).where(chosen, *_has_old(tables)).order_by(jobs.c.id).limit(_CHUNK)
    while rows := connection.execute(options.where(jobs.c.id > after)).all():
        after = rows[-1].id
        ids: dict[str, list[str]] = {}
        for job_id, text in rows:
            new = renewed(text)
            if new != text:
                ids.setdefault(new, []).append(job_id)
        for new, every in ids.items():
            connection.execute(update(jobs).where(jobs.c.id.in_(every)).values(options=new))


def _has_old(tables: Tables) -> list[ColumnElement[bool]]:
    """Whether options may hold something of the last round; what is sealed can't be searched, so all are read."""
    options = tables.jobs.c.options
    return [or_(options.like('%"retries"%'), options.like('%"expires"%'))] if tables.codec is None else []


def renewed(text: str) -> str:
    """The options of a call without what belonged to the last round: the retries it had, the moment it expired."""
    options = decode(text)
    if options.pop("retries", 0):
        # The pause before that retry.
        options.pop("countdown", None)
        options.pop("eta", None)
    if isinstance(options.get("expires"), str):
        del options["expires"]
    return encode(options)


def forgive(connection: Connection, tables: Tables, batch_id: str) -> None:
    """Let nothing that has ended count against the tolerance: an abandoned block, what stays skipped."""
    jobs = tables.jobs
    statement = update(jobs).where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_not(None), jobs.c.wrong != 0)
    connection.execute(statement.values(wrong=0))


def start_round(connection: Connection, tables: Tables, batch_id: str) -> None:
    """Set a batch running again, undecided, in its next round."""
    batches = tables.batches
    values = {"state": BatchState.RUNNING, "round": batches.c.round + 1, "completed_at": None, "settled_at": None}
    # A flow inside another whose turn never came begins with this.
    values["started_at"] = func.coalesce(batches.c.started_at, utcnow())
    statement = update(batches).where(batches.c.id == batch_id).values(values)
    key = connection.scalar(select(batches.c.batch_key).where(batches.c.id == batch_id))
    if key is None:
        connection.execute(statement)
    else:
        claim_key(connection, tables, key, statement.values(open_key=key))


def wait_for_child(connection: Connection, tables: Tables, child_id: str, *, is_wrong: bool = False) -> bool:
    """Open a child batch's row in its parent; say whether it counted as wrong and no longer does."""
    jobs = tables.jobs
    row = update(jobs).where(jobs.c.id == child_id)
    cleared = connection.execute(row.where(jobs.c.wrong == 1).values(wrong=0)).rowcount == 1
    connection.execute(row.values({"state": JobState.RUNNING, **_FRESH, "wrong": int(is_wrong)}))
    return cleared and not is_wrong


def restate_child(connection: Connection, tables: Tables, child: ChildStanding) -> None:
    """End the row that stands for a child batch as that has ended, which may be otherwise than before."""
    jobs = tables.jobs
    values = {"state": JobState(child.state), "wrong": int(child.is_wrong)}
    connection.execute(update(jobs).where(jobs.c.id == child.id).values(values))


class FinishedChild(NamedTuple):
    """A child batch that has come to its end."""

    id: str
    state: BatchState


def finished_children(connection: Connection, tables: Tables, batch_id: str) -> list[FinishedChild]:
    """The finished children of a batch, but for those that ended before their turn."""
    batches = tables.batches
    is_over = and_(batches.c.settled_at.is_not(None), batches.c.started_at.is_not(None))
    statement = select(batches.c.id, batches.c.state).where(batches.c.parent_id == batch_id, is_over)
    return [
        FinishedChild(row[0], BatchState(row[1])) for row in connection.execute(statement.order_by(batches.c.id))
    ]


def children(connection: Connection, tables: Tables, batch_id: str) -> list[ChildStanding]:
    """How the children stand that have a row in a batch."""
    jobs, batches, callback = tables.jobs, tables.batches, tables.jobs.alias("callback")
    waits = exists().where(callback.c.announces_id == batches.c.id, callback.c.outcome.is_(None))
    is_over = and_(batches.c.settled_at.is_not(None), ~waits)
    statement = (
        select(batches.c.id, batches.c.state, is_over)
        .join(jobs, jobs.c.id == batches.c.id)
        .where(jobs.c.batch_id == batch_id, jobs.c.kind == Kind.BATCH, batches.c.started_at.is_not(None))
        .order_by(batches.c.id)
    )
    return [ChildStanding(row[0], BatchState(row[1]), bool(row[2])) for row in connection.execute(statement)]


def wrong_jobs(connection: Connection, tables: Tables, batch_id: str, without: Sequence[str] = ()) -> int:
    """How many of a batch's own jobs count against its tolerance; children that have begun are counted apart.

    Args:
        without: ids of jobs that don't count.
    """
    jobs, batches = tables.jobs, tables.batches
    has_begun = exists().where(batches.c.id == jobs.c.id, batches.c.started_at.is_not(None))
    is_apart = or_(jobs.c.kind == Kind.JOIN, and_(jobs.c.kind == Kind.BATCH, has_begun))
    mine = (jobs.c.batch_id == batch_id) & one_of(jobs.c.outcome, (*WRONG, JobState.SKIPPED))
    found = select(jobs.c.id).where(mine, jobs.c.wrong == 1, ~is_apart)
    return len(set(connection.scalars(found)).difference(without))


def callbacks(connection: Connection, tables: Tables, batch_id: str, round_: int) -> list[Any]:
    """The callbacks of one round of a batch."""
    jobs = tables.jobs
    statement = select(jobs).where(jobs.c.announces_id == batch_id, jobs.c.round == round_)
    return list(connection.execute(statement.order_by(jobs.c.id)))


def repeat_callback(connection: Connection, tables: Tables, callback: Any, job_id: str, round_: int) -> None:
    """Write a callback again, waiting, for a later round."""
    kept = ("announces_id", "kind", "event", "task", "args", "kwargs")
    values = {name: getattr(callback, name) for name in kept}
    values |= {"delivery": 0, "attempt": 0, "losses": 0, "wrong": 0, "options": renewed(callback.options)}
    values |= {"id": job_id, "round": round_, "state": JobState.WAITING}
    connection.execute(insert(tables.jobs).values(enrolled_at=utcnow(), **values))


def ready_after(connection: Connection, tables: Tables, batch_id: str, after: str, limit: int) -> list[ReadyJob]:
    """The next ready jobs of a batch behind an id, for the publisher of a new round."""
    jobs = tables.jobs
    statement = (
        select(*ReadyJob.columns(tables))
        .where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None), jobs.c.id > after)
        .where(jobs.c.state == JobState.READY)
        .order_by(jobs.c.id)
        .limit(limit)
    )
    return [ReadyJob(*row) for row in connection.execute(statement)]
