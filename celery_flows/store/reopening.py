"""What is said to the database to open a new round of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, exists, func, insert, or_, select, update

from celery_flows.codec import decode, encode
from celery_flows.states import WRONG, BatchState, JobState, Kind
from celery_flows.store.jobs import ReadyJob
from celery_flows.store.statements import one_of
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


def undo(connection: Connection, tables: Tables, batch_id: str, outcomes: Sequence[JobState]) -> None:
    """Make the jobs of a batch that ended so ready again, under the next delivery number."""
    jobs = tables.jobs
    chosen = and_(jobs.c.batch_id == batch_id, one_of(jobs.c.outcome, outcomes), jobs.c.kind == Kind.TASK)
    _renew_options(connection, tables, chosen)
    values = {"state": JobState.READY, "delivery": jobs.c.delivery + 1, **_FRESH}
    connection.execute(update(jobs).where(chosen).values(publishing_since=utcnow(), **values))


def _renew_options(connection: Connection, tables: Tables, chosen: Any) -> None:
    jobs = tables.jobs
    has_old = or_(jobs.c.options.like('%"retries"%'), jobs.c.options.like('%"expires"%'))
    ids: dict[str, list[str]] = {}
    for job_id, options in connection.execute(select(jobs.c.id, jobs.c.options).where(chosen, has_old)):
        ids.setdefault(renewed(options), []).append(job_id)
    for options, every in ids.items():
        for first in range(0, len(every), _CHUNK):
            some = jobs.c.id.in_(every[first : first + _CHUNK])
            connection.execute(update(jobs).where(some).values(options=options))


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
    connection.execute(update(batches).where(batches.c.id == batch_id).values(values))


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


def finished_children(
    connection: Connection, tables: Tables, batch_id: str, states: Sequence[BatchState]
) -> list[str]:
    """The finished children of a batch in these states."""
    batches = tables.batches
    statement = select(batches.c.id).where(batches.c.parent_id == batch_id, one_of(batches.c.state, states))
    return list(connection.scalars(statement.where(batches.c.settled_at.is_not(None)).order_by(batches.c.id)))


def children(connection: Connection, tables: Tables, batch_id: str) -> list[ChildStanding]:
    """How the children stand that have a row in a batch."""
    jobs, batches, callback = tables.jobs, tables.batches, tables.jobs.alias("callback")
    waits = exists().where(callback.c.announces_id == batches.c.id, callback.c.outcome.is_(None))
    is_over = and_(batches.c.settled_at.is_not(None), ~waits)
    statement = (
        select(batches.c.id, batches.c.state, is_over)
        .join(jobs, jobs.c.id == batches.c.id)
        .where(jobs.c.batch_id == batch_id, jobs.c.kind == Kind.BATCH)
        .order_by(batches.c.id)
    )
    return [ChildStanding(row[0], BatchState(row[1]), bool(row[2])) for row in connection.execute(statement)]


def wrong_tasks(connection: Connection, tables: Tables, batch_id: str) -> int:
    """How many of a batch's own jobs count against its tolerance."""
    jobs = tables.jobs
    wrong = (*WRONG, JobState.SKIPPED)
    mine = (jobs.c.batch_id == batch_id) & one_of(jobs.c.outcome, wrong) & (jobs.c.kind != Kind.BATCH)
    return connection.scalar(select(func.count()).select_from(jobs).where(mine, jobs.c.wrong == 1)) or 0


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
        select(*(jobs.c[name] for name in ReadyJob._fields))
        .where(jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None), jobs.c.id > after)
        .where(jobs.c.state == JobState.READY)
        .order_by(jobs.c.id)
        .limit(limit)
    )
    return [ReadyJob(*row) for row in connection.execute(statement)]
