"""What is said to the database about publishing jobs: which are due, whose they are, which the broker has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Float, Update, bindparam, case, null, select, update

from celery_flows.codec import unseal
from celery_flows.states import JobState
from celery_flows.store.statements import in_list, one_of, unhurried, word
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago, utcnow


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
    #: Whether somebody needs its result, and whether others wait for it.
    keeps: int | None = None
    blocks: int | None = None

    @classmethod
    def columns(cls, tables: Tables) -> list[Column[Any]]:
        """What to read of a job's row to make one."""
        return [tables.jobs.c[name] for name in cls._fields]

    @classmethod
    def stored(cls, tables: Tables, row: Sequence[Any]) -> ReadyJob:
        """Make one of a row that came straight from the driver, around the types that unseal otherwise."""
        if tables.codec is None:
            return cls(*row)
        sealed = ("args", "kwargs", "options")
        named: Iterable[tuple[str, Any]] = zip(cls._fields, row, strict=True)
        values: list[Any] = [unseal(tables.codec, one) if name in sealed else one for name, one in named]
        return cls(*values)


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
            .where(in_list(connection, jobs.c.id, ids), jobs.c.delivery == delivery)
            .where(one_of(jobs.c.state, (JobState.READY, JobState.RETRYING)))
        )
        since = utcnow() if delay <= 0 else seconds_ago(-delay)
        connection.execute(statement.values(state=state, publishing_since=None, queue=queue, queued_at=since))


def mark_one(tables: Tables, dialect: str) -> Update:
    """Note that the message `:at_delivery` of the job `:at_id` is with the broker, if it has not gone further."""
    jobs, later = tables.jobs, bindparam("to_delay", type_=Float())
    state = case((jobs.c.state == word(JobState.READY), word(JobState.QUEUED)), else_=jobs.c.state)
    statement = (
        update(jobs)
        .where(jobs.c.id == bindparam("at_id"), jobs.c.delivery == bindparam("at_delivery"))
        .where(one_of(jobs.c.state, (JobState.READY, JobState.RETRYING)))
        .values(state=state, publishing_since=null(), queue=bindparam("to_queue"), queued_at=seconds_ago(-later))
    )
    # What a crash of the database forgets of it is sent once more, under another number.
    return unhurried(statement, dialect)


def keep(connection: Connection, tables: Tables, ids: Sequence[str]) -> None:
    """Go on owning jobs that are still to be published, so that the sweep leaves them alone."""
    jobs = tables.jobs
    statement = update(jobs).where(in_list(connection, jobs.c.id, ids), jobs.c.publishing_since.is_not(None))
    connection.execute(statement.values(publishing_since=utcnow()))


def take_overdue(connection: Connection, tables: Tables, age: float, limit: int) -> list[ReadyJob]:
    """Take over jobs that somebody meant to publish `age` seconds ago, under a new delivery number."""
    jobs = tables.jobs
    overdue = select(*ReadyJob.columns(tables)).where(
        jobs.c.publishing_since.is_not(None), jobs.c.publishing_since <= seconds_ago(age)
    )
    rows = connection.execute(
        overdue.order_by(jobs.c.publishing_since).limit(limit).with_for_update(skip_locked=True)
    ).all()
    return take(connection, tables, [ReadyJob(*row) for row in rows])


def ready_among(connection: Connection, tables: Tables, ids: Sequence[str]) -> list[ReadyJob]:
    """Read those of these jobs that are ready, for their first publisher."""
    jobs = tables.jobs
    return ready_where(connection, tables, in_list(connection, jobs.c.id, ids) & (jobs.c.state == JobState.READY))


def take(connection: Connection, tables: Tables, found: list[ReadyJob]) -> list[ReadyJob]:
    """Take over the publishing of jobs that are locked, under the next delivery number."""
    jobs = tables.jobs
    if found:
        taken = update(jobs).where(in_list(connection, jobs.c.id, [job.id for job in found]))
        state = case((jobs.c.state == word(JobState.QUEUED), word(JobState.READY)), else_=jobs.c.state)
        values = {"state": state, "worker_id": None, "publishing_since": utcnow()}
        connection.execute(taken.values(values | {"delivery": jobs.c.delivery + 1}))
    return [job._replace(delivery=job.delivery + 1) for job in found]


def ready_where(connection: Connection, tables: Tables, condition: Any) -> list[ReadyJob]:
    """Read jobs for publishing."""
    statement = select(*ReadyJob.columns(tables)).where(condition).order_by(tables.jobs.c.id)
    return [ReadyJob(*row) for row in connection.execute(statement)]
