"""What is said to the database about jobs, one function or statement per operation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    Connection,
    Float,
    Select,
    Update,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql import ClauseElement

from celery_flows.codec import safe_text
from celery_flows.states import CLAIMABLE, WRONG, JobState, Kind
from celery_flows.store.statements import one_of, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import KEY, seconds_ago, utcnow


class ReadyJob(NamedTuple):
    """What a publisher needs to know of a job."""

    id: str
    batch_id: str | None
    announces_id: str | None
    kind: str
    state: str
    task: str
    args: str
    kwargs: str
    options: str
    delivery: int


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
        (jobs.c.publishing_since, None),
        (jobs.c.started_at, utcnow()),
    ]
    statement = statement.ordered_values(*values)
    return statement if dialect == "mysql" else statement.returning(jobs.c.attempt)


def complete(tables: Tables, dialect: str) -> Update:
    """End a running job as complete, if `:at_token` still holds it."""
    jobs = tables.jobs
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), jobs.c.state == word(JobState.RUNNING))
        .where(jobs.c.token == bindparam("at_token"), jobs.c.delivery == bindparam("at_delivery"))
        .values(state=word(JobState.COMPLETE), worker_id=None, expires_at=None, ended_at=utcnow())
    )


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
    """Give a running job back to the queue that will deliver it again, if `:at_token` still holds it."""
    jobs = tables.jobs
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), jobs.c.state == word(JobState.RUNNING))
        .where(jobs.c.token == bindparam("at_token"), jobs.c.delivery == bindparam("at_delivery"))
        .values(state=bindparam("to_state"), token=None, worker_id=None)
    )


def retry(tables: Tables, dialect: str) -> ClauseElement:
    """Write down the next attempt of a running job, with its message, before it is published."""
    jobs = tables.jobs
    return (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), jobs.c.state == word(JobState.RUNNING))
        .where(jobs.c.token == bindparam("at_token"), jobs.c.delivery == bindparam("at_delivery"))
        .values(
            state=bindparam("to_state"),
            delivery=jobs.c.delivery + literal_column("1"),
            token=None,
            worker_id=None,
            publishing_since=utcnow(),
            queued_at=None,
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
        .where(jobs.c.id == bindparam("at_id"), jobs.c.state == word(JobState.RUNNING))
        .where(jobs.c.token == bindparam("at_token"), jobs.c.delivery == bindparam("at_delivery"))
        .values(
            state=word(JobState.RETRYING),
            delivery=jobs.c.delivery + literal_column("1"),
            token=None,
            worker_id=None,
            # Its message is Celery's to bring, from no queue that we know.
            queued_at=None,
        )
    )


def end(connection: Connection, tables: Tables, job: Ending) -> bool:
    """Write the one outcome of a job, if what the caller expects still holds; say whether it did."""
    return connection.execute(_end(tables, job)).rowcount == 1


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


def _end(tables: Tables, job: Ending) -> Update:
    jobs = tables.jobs
    unclaimed = one_of(jobs.c.state, (JobState.WAITING, *CLAIMABLE))
    mine = (jobs.c.state == word(JobState.RUNNING)) & (jobs.c.token == job.token)
    statement = update(jobs).where(jobs.c.id == job.id).where(or_(unclaimed, mine) if job.token else unclaimed)
    if job.delivery is not None:
        statement = statement.where(jobs.c.delivery == job.delivery)
    return statement.values(
        state=job.state,
        wrong=int(job.state in WRONG),
        error_class=None if job.error_class is None else safe_text(job.error_class, 255),
        error_message=None if job.error_message is None else safe_text(job.error_message),
        worker_id=None,
        publishing_since=None,
        # Out of the index in which the sweep looks for expired jobs.
        expires_at=None,
        ended_at=utcnow(),
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
    return connection.execute(statement.values(state=state, ended_at=utcnow())).rowcount == 1


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


def is_unfinished(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether a job of the batch has not ended: the check under the lock, in a statement of its own."""
    return connection.execute(probe(tables, connection.dialect.name), {"batch_id": batch_id}).first() is not None


def has_open_block(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether a streaming block of the batch is open."""
    jobs = tables.jobs
    block = select(jobs.c.id).where(
        jobs.c.batch_id == batch_id, jobs.c.outcome.is_(None), jobs.c.kind == Kind.BLOCK
    )
    return connection.execute(block.limit(1)).first() is not None


def has_abandoned_block(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether a streaming block of the batch was abandoned in this round."""
    jobs = tables.jobs
    failed = select(jobs.c.id).where(jobs.c.batch_id == batch_id, one_of(jobs.c.outcome, [JobState.FAILED]))
    abandoned = failed.where(jobs.c.kind == Kind.BLOCK, jobs.c.wrong == 1)
    return connection.execute(abandoned.limit(1)).first() is not None


def has_wrong(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether an ended job of the batch counts against its tolerance."""
    jobs = tables.jobs
    ends = (JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED)
    wrong = select(jobs.c.id).where(jobs.c.batch_id == batch_id, one_of(jobs.c.outcome, ends), jobs.c.wrong == 1)
    return connection.execute(wrong.limit(1)).first() is not None


def callbacks_pending(connection: Connection, tables: Tables, batch_id: str) -> bool:
    """Whether a callback of the batch has not ended."""
    jobs = tables.jobs
    return bool(
        connection.scalar(select(exists().where(jobs.c.announces_id == batch_id, jobs.c.outcome.is_(None))))
    )


def arm(connection: Connection, tables: Tables, batch_id: str, events: Sequence[str]) -> list[ReadyJob]:
    """Make the callbacks of events ready, and read them for publishing."""
    jobs = tables.jobs
    due = (jobs.c.announces_id == batch_id) & (jobs.c.state == JobState.WAITING) & jobs.c.event.in_(events)
    ready = [job._replace(state=JobState.READY) for job in _ready(connection, tables, due)]
    if ready:
        statement = update(jobs).where(jobs.c.id.in_([job.id for job in ready]))
        connection.execute(statement.values(state=JobState.READY, publishing_since=utcnow()))
    return ready


def join_round(connection: Connection, tables: Tables, callback_id: str, round_: int) -> None:
    """Let a new callback belong to a later round than the first."""
    jobs = tables.jobs
    connection.execute(update(jobs).where(jobs.c.id == callback_id).values(round=round_))


def skip_callbacks(connection: Connection, tables: Tables, batch_id: str) -> None:
    """End the callbacks whose event will not come."""
    jobs = tables.jobs
    waiting = update(jobs).where(jobs.c.announces_id == batch_id, jobs.c.state == JobState.WAITING)
    connection.execute(waiting.values(state=JobState.SKIPPED, ended_at=utcnow()))


def add_one(connection: Connection, tables: Tables, **values: Any) -> None:
    """Write one job row that has no message to publish yet."""
    blank: dict[str, Any] = {"task": "", "round": 1, "delivery": 0, "attempt": 0, "losses": 0, "wrong": 0}
    connection.execute(insert(tables.jobs).values(blank | {"enrolled_at": utcnow()} | values))


def remove(connection: Connection, tables: Tables, job_id: str) -> bool:
    """Take back a row that stood for nothing a user enrolled."""
    jobs = tables.jobs
    return connection.execute(jobs.delete().where(jobs.c.id == job_id, jobs.c.outcome.is_(None))).rowcount == 1


class Published(NamedTuple):
    """Which publish of a job the broker has, and where."""

    job_id: str
    delivery: int
    #: The queue, where it is known.
    queue: str | None = None
    #: Seconds from now until the message may run.
    delay: float = 0.0

    @classmethod
    def of(cls, job: ReadyJob) -> Published:
        """A job that was published, nobody knows to which queue."""
        return cls(job.id, job.delivery)


def mark_queued(connection: Connection, tables: Tables, published: Iterable[Published]) -> None:
    """Note that messages are with the broker, for those jobs that have not gone further meanwhile."""
    jobs = tables.jobs
    alike: dict[tuple[int, str | None, float], list[str]] = {}
    for one in published:
        alike.setdefault((one.delivery, one.queue, one.delay), []).append(one.job_id)
    state = case((jobs.c.state == word(JobState.READY), word(JobState.QUEUED)), else_=jobs.c.state)
    for (delivery, queue, delay), ids in alike.items():
        statement = (
            update(jobs)
            .where(jobs.c.id.in_(ids), jobs.c.delivery == delivery)
            .where(one_of(jobs.c.state, (JobState.READY, JobState.RETRYING)))
        )
        since = utcnow() if delay <= 0 else seconds_ago(-delay)
        connection.execute(statement.values(state=state, publishing_since=None, queue=queue, queued_at=since))


def keep(connection: Connection, tables: Tables, ids: Sequence[str]) -> None:
    """Go on owning jobs that are still to be published, so that the sweep leaves them alone."""
    jobs = tables.jobs
    statement = update(jobs).where(jobs.c.id.in_(ids), jobs.c.publishing_since.is_not(None))
    connection.execute(statement.values(publishing_since=utcnow()))


def take_overdue(connection: Connection, tables: Tables, age: float, limit: int) -> list[ReadyJob]:
    """Take over jobs that somebody meant to publish `age` seconds ago, under a new delivery number."""
    jobs = tables.jobs
    overdue = _ready_columns(tables).where(
        jobs.c.publishing_since.is_not(None), jobs.c.publishing_since <= seconds_ago(age)
    )
    rows = connection.execute(
        overdue.order_by(jobs.c.publishing_since).limit(limit).with_for_update(skip_locked=True)
    ).all()
    return _take(connection, tables, [ReadyJob(*row) for row in rows])


def ready_among(connection: Connection, tables: Tables, ids: Sequence[str]) -> list[ReadyJob]:
    """Read those of these jobs that are ready, for their first publisher."""
    jobs = tables.jobs
    return _ready(connection, tables, jobs.c.id.in_(ids) & (jobs.c.state == JobState.READY))


def _take(connection: Connection, tables: Tables, rows: list[ReadyJob]) -> list[ReadyJob]:
    jobs = tables.jobs
    if rows:
        statement = update(jobs).where(jobs.c.id.in_([row.id for row in rows]))
        connection.execute(statement.values(delivery=jobs.c.delivery + 1, publishing_since=utcnow()))
    return [row._replace(delivery=row.delivery + 1) for row in rows]


def _ready_columns(tables: Tables) -> Any:
    return select(*(tables.jobs.c[name] for name in ReadyJob._fields))


def _ready(connection: Connection, tables: Tables, condition: Any) -> list[ReadyJob]:
    statement = _ready_columns(tables).where(condition).order_by(tables.jobs.c.id)
    return [ReadyJob(*row) for row in connection.execute(statement)]
