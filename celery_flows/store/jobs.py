"""What is said to the database about jobs, one function or statement per operation."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    Update,
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

from celery_flows.codec import safe_text
from celery_flows.states import CLAIMABLE, WRONG, JobState, Kind
from celery_flows.store import tallies
from celery_flows.store.statements import answering, one_of, unhurried, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import KEY, seconds_ago, utcnow


def claim(tables: Tables, dialect: str) -> ClauseElement:
    """Take a delivered job: `:at_id` from a claimable state to running, attempt + 1, under `:at_token`.

    The same delivery may ask again: a claim whose answer was lost succeeds with the same attempt.
    A worker whose lease has run out takes nothing: others may have given up what it runs.
    """
    jobs, workers = tables.jobs, tables.workers
    worker_id: BindParameter[Any] = bindparam("at_worker", type_=KEY)
    lives = exists().where(
        workers.c.id == worker_id, workers.c.heartbeat_at > seconds_ago(bindparam("at_lease", type_=Float()))
    )
    again = jobs.c.state == word(JobState.RUNNING)
    attempt = jobs.c.attempt + case((again, literal_column("0")), else_=literal_column("1"))
    statement = (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), jobs.c.delivery == bindparam("at_delivery"))
        .where(or_(one_of(jobs.c.state, CLAIMABLE), again & (jobs.c.token == bindparam("at_token"))))
        .where(or_(worker_id.is_(None), lives))
    )
    values = [
        # Before the state: MySQL assigns from left to right and would see the new one.
        (jobs.c.attempt, func.last_insert_id(attempt) if dialect == "mysql" else attempt),
        (jobs.c.state, word(JobState.RUNNING)),
        (jobs.c.token, bindparam("at_token")),
        (jobs.c.worker_id, worker_id),
        (jobs.c.is_late, bindparam("to_late")),
        (jobs.c.on_loss, bindparam("to_on_loss")),
        (jobs.c.publishing_since, null()),
        (jobs.c.started_at, utcnow()),
    ]
    statement = statement.ordered_values(*values)
    if dialect == "mysql":
        return statement
    # What a crash of the database forgets of the claim of a job that runs, the worker says again.
    return unhurried(statement.returning(jobs.c.attempt), dialect)


def is_held(tables: Tables) -> ColumnElement[bool]:
    """Whether a job is running, claimed by `:at_token` for `:at_delivery`.

    Or nobody has claimed that delivery, who asks this having done so: a crash of the database has forgotten it.
    """
    jobs = tables.jobs
    claimed = (jobs.c.state == word(JobState.RUNNING)) & (jobs.c.token == bindparam("at_token"))
    return (jobs.c.delivery == bindparam("at_delivery")) & or_(claimed, one_of(jobs.c.state, CLAIMABLE))


def complete(tables: Tables, dialect: str) -> Update:
    """End a running job as complete, if `:at_token` still holds it; say whether others wait for it."""
    mine = (tables.jobs.c.id == bindparam("at_id")) & is_held(tables)
    return answering(completing(tables, mine, is_releasing(tables)), tables.jobs.c.blocks, dialect)


def completing(tables: Tables, chosen: ColumnElement[bool], releasing_since: Any) -> Update:
    """End a job as complete, with `:to_result`."""
    return (
        update(tables.jobs)
        .where(chosen)
        .values(
            state=word(JobState.COMPLETE),
            worker_id=null(),
            expires_at=null(),
            result=bindparam("to_result"),
            releasing_since=releasing_since,
            ended_at=utcnow(),
        )
    )


def is_releasing(tables: Tables) -> Any:
    """Since when somebody means to see to what waits for a job that ends now; NULL where nothing waits."""
    return case((tables.jobs.c.blocks == literal_column("1"), utcnow()))


def probe(tables: Tables, dialect: str) -> Select[Any]:
    """Look for a job of `:batch_id` that has not ended, from the newest end of the index.

    The newest end, as the oldest is where the dead entries of ended jobs pile up. PostgreSQL sees that the
    index is in this order only if the outcome is named, NULL though it is in every row; else it sorts all
    unfinished jobs, or walks back over those of newer batches. MariaDB would sort if it were named.
    """
    jobs = tables.jobs
    is_named = dialect not in ("mysql", "mariadb")
    return (
        select(jobs.c.id)
        .where(jobs.c.batch_id == bindparam("batch_id"), jobs.c.outcome.is_(None))
        .order_by(*([jobs.c.outcome.desc()] if is_named else []), jobs.c.id.desc())
        .limit(literal_column("1"))
    )


def requeue(tables: Tables, dialect: str) -> ClauseElement:
    """Give a running job back to the queue that will deliver it again, if `:at_token` still holds it.

    Where its publisher has not marked it, as the claim was faster or the publisher died, nobody knows that
    queue, or would miss the message in it. It is ready again: the mark is still to come, or the sweep.
    """
    jobs = tables.jobs
    to_state: BindParameter[str] = bindparam("to_state", type_=jobs.c.state.type)
    is_unmarked = jobs.c.queued_at.is_(None) & (to_state == word(JobState.QUEUED))
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), is_held(tables))
        .values(
            state=case((is_unmarked, word(JobState.READY)), else_=to_state),
            publishing_since=case((is_unmarked, utcnow()), else_=null()),
            token=null(),
            worker_id=null(),
        )
    )


def retry(tables: Tables, dialect: str) -> ClauseElement:
    """Write down the next attempt of a running job, with its message, before it is published."""
    jobs = tables.jobs
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), is_held(tables))
        .values(
            state=bindparam("to_state"),
            delivery=jobs.c.delivery + literal_column("1"),
            token=null(),
            worker_id=null(),
            publishing_since=utcnow(),
            queued_at=null(),
            task=bindparam("to_task"),
            args=bindparam("to_args"),
            kwargs=bindparam("to_kwargs"),
            options=bindparam("to_options"),
        )
    )


def hand_over(tables: Tables, dialect: str) -> ClauseElement:
    """Leave a running job to the canvas that replaces it, under the next delivery number."""
    jobs = tables.jobs
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), is_held(tables))
        .values(
            state=word(JobState.RETRYING),
            delivery=jobs.c.delivery + literal_column("1"),
            token=null(),
            worker_id=null(),
            # Its message is Celery's to bring, from no queue that we know.
            queued_at=null(),
        )
    )


class Ending(NamedTuple):
    """The end of a job, and what must hold for it to be written."""

    id: str
    state: JobState
    error_class: str | None = None
    error_message: str | None = None
    #: The delivery that ends; None: whichever is the latest.
    delivery: int | None = None
    #: The claim that ends; None: there is none, the job is not running.
    token: str | None = None
    #: What it returned, as JSON, where somebody needs it.
    result: str | None = None
    #: Whether others were known to wait for it.
    blocks: bool = False

    def values(self) -> dict[str, Any]:
        """What a statement that ends it is given."""
        return {
            "at_id": self.id,
            "at_delivery": self.delivery,
            "at_token": self.token,
            "to_state": str(self.state),
            "to_wrong": int(self.state in WRONG),
            "to_class": None if self.error_class is None else safe_text(self.error_class, 255),
            "to_message": None if self.error_message is None else safe_text(self.error_message),
        }


def end(connection: Connection, tables: Tables, job: Ending) -> bool:
    """Write the one outcome of a job, if what the caller expects still holds; say whether it did."""
    return connection.execute(_end(tables), job.values()).rowcount == 1


def fail(tables: Tables, dialect: str) -> ClauseElement | tuple[ClauseElement, ClauseElement]:
    """The same for one that goes wrong, counted where its batch tolerates something; say whether others wait.

    In one transaction: so it is counted once, however often its end is told. PostgreSQL says both at once.
    """
    jobs = tables.jobs
    if dialect != "postgresql":
        return answering(_end(tables), jobs.c.blocks, dialect), tallies.count_one(tables, dialect)
    ended = _end(tables).returning(jobs.c.batch_id, jobs.c.blocks).cte("ended")
    return select(ended.c.blocks).add_cte(tallies.count_one(tables, dialect, ended.c.batch_id).cte("counted"))


def _end(tables: Tables) -> Update:
    jobs = tables.jobs
    delivery: BindParameter[Any] = bindparam("at_delivery", type_=Integer())
    unclaimed = one_of(jobs.c.state, (JobState.WAITING, *CLAIMABLE))
    # Where no token is given, no running job is meant: NULL equals nothing.
    mine = (jobs.c.state == word(JobState.RUNNING)) & (jobs.c.token == bindparam("at_token"))
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), or_(unclaimed, mine))
        .where(or_(delivery.is_(None), jobs.c.delivery == delivery))
        .values(
            state=bindparam("to_state"),
            wrong=bindparam("to_wrong"),
            error_class=bindparam("to_class"),
            error_message=bindparam("to_message"),
            worker_id=null(),
            publishing_since=null(),
            # Out of the index in which the sweep looks for expired jobs.
            expires_at=null(),
            releasing_since=is_releasing(tables),
            ended_at=utcnow(),
        )
    )


def expired(connection: Connection, tables: Tables, limit: int) -> list[Any]:
    """Jobs that no worker has claimed and whose time is over: id, batch, delivery."""
    jobs = tables.jobs
    statement = (
        select(jobs.c.id, jobs.c.batch_id, jobs.c.announces_id, jobs.c.delivery)
        .where(jobs.c.expires_at.is_not(None), jobs.c.expires_at < utcnow())
        .where(one_of(jobs.c.state, CLAIMABLE))
        .order_by(jobs.c.expires_at)
        .limit(limit)
    )
    return list(connection.execute(statement))


def end_child(connection: Connection, tables: Tables, child_id: str, state: JobState) -> bool:
    """End the row that stands for a child batch in its parent."""
    jobs = tables.jobs
    statement = update(jobs).where(jobs.c.id == child_id, jobs.c.outcome.is_(None))
    values = {"state": state, "ended_at": utcnow(), "releasing_since": is_releasing(tables)}
    return connection.execute(statement.values(values)).rowcount == 1


def start_child(connection: Connection, tables: Tables, child_id: str) -> None:
    """Show the row that stands for a child batch as running."""
    jobs = tables.jobs
    statement = update(jobs).where(jobs.c.id == child_id, jobs.c.state == JobState.WAITING)
    connection.execute(statement.values(state=JobState.RUNNING, started_at=utcnow()))


def mark_wrong(connection: Connection, tables: Tables, job_id: str) -> bool:
    """Count a job that has not ended yet against its batch, once; say whether it was the first time."""
    jobs = tables.jobs
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.wrong == 0).values(wrong=1)
    return connection.execute(statement).rowcount == 1


def find(connection: Connection, tables: Tables, job_id: str) -> Any | None:
    """Read one job, or None."""
    return connection.execute(select(tables.jobs).where(tables.jobs.c.id == job_id)).one_or_none()


def touch_claimed(connection: Connection, tables: Tables, job_id: str, token: str) -> bool:
    """Hold a job that runs under a claim, and for which others wait, as one just written; say whether it does."""
    jobs = tables.jobs
    mine = (jobs.c.id == job_id) & (jobs.c.token == token) & (jobs.c.state == JobState.RUNNING)
    if connection.dialect.name == "postgresql":
        return connection.execute(update(jobs).where(mine).values(blocks=1)).rowcount == 1
    # Elsewhere nobody asks who wrote it last, so a lock will do. And MySQL may count only what changes by an
    # UPDATE: here, nothing.
    return connection.execute(select(jobs.c.id).where(mine).with_for_update()).first() is not None


def hold_running(connection: Connection, tables: Tables, job_id: str) -> bool:
    """Lock a job that is running; say whether it is."""
    jobs = tables.jobs
    statement = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.state == JobState.RUNNING)
    return connection.execute(statement.with_for_update()).first() is not None


def is_claimable(connection: Connection, tables: Tables, job_id: str, delivery: int) -> bool:
    """Whether a delivery may claim a job, as far as the job goes."""
    jobs = tables.jobs
    statement = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.delivery == delivery)
    return connection.execute(statement.where(one_of(jobs.c.state, CLAIMABLE))).first() is not None


def has_open_block(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether a streaming block of the batch is open."""
    jobs = tables.jobs
    block = select(jobs.c.id).where(
        jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None), jobs.c.kind == Kind.BLOCK
    )
    return connection.execute(block.limit(1)).first() is not None


def add_one(connection: Connection, tables: Tables, **values: Any) -> None:
    """Write one job row that has no message to publish yet."""
    blank: dict[str, Any] = {"task": "", "round": 1, "delivery": 0, "attempt": 0, "losses": 0, "wrong": 0}
    connection.execute(insert(tables.jobs).values(blank | {"enrolled_at": utcnow()} | values))


def remove(connection: Connection, tables: Tables, job_id: str) -> bool:
    """Take back a row that stood for nothing a user enrolled."""
    jobs = tables.jobs
    return connection.execute(jobs.delete().where(jobs.c.id == job_id, jobs.c.outcome.is_(None))).rowcount == 1
