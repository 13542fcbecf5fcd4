"""What is said to the database about the leases of worker processes, by its own clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Update, delete, exists, func, insert, select, update

from celery_flows.states import CLAIMABLE, JobState
from celery_flows.store.publishing import ReadyJob, take
from celery_flows.store.statements import one_of
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago, utcnow
from celery_flows.store.workers import SWEEP


class Held(NamedTuple):
    """A running job, or an open streaming block, and the claim on it."""

    id: str
    token: str
    kind: str
    batch_id: str | None


def renew(connection: Connection, tables: Tables, worker_id: str, hostname: str, pid: int) -> None:
    """Say that a worker process lives; the first time, and after it was given up, write its row."""
    workers = tables.workers
    statement = update(workers).where(workers.c.id == worker_id).values(heartbeat_at=utcnow())
    if connection.execute(statement).rowcount == 0:
        connection.execute(
            insert(workers).values(
                id=worker_id, hostname=hostname, pid=pid, started_at=utcnow(), heartbeat_at=utcnow()
            )
        )


def note_pause(connection: Connection, tables: Tables, lease: float) -> bool:
    """Notice that nobody has renewed anything for a while: the database was away, or every worker was.

    From now on nothing expires until a lease's time has passed. To be asked before one's own renewal.
    """
    workers = tables.workers
    if is_anybody_heard(connection, tables, lease):
        return False
    statement = update(workers).where(workers.c.id == SWEEP)
    connection.execute(statement.values(started_at=utcnow()))
    return True


def is_calm(connection: Connection, tables: Tables, lease: float) -> bool:
    """Whether heartbeats have been recorded for a lease's time without a pause, so that silence means death.

    Somebody must be heard now too: else this may be the end of a pause that nobody has noted yet.
    """
    workers = tables.workers
    calm = select(workers.c.id).where(workers.c.id == SWEEP, workers.c.started_at <= seconds_ago(lease))
    return is_anybody_heard(connection, tables, lease) and connection.execute(calm).first() is not None


def is_anybody_heard(connection: Connection, tables: Tables, lease: float) -> bool:
    """Whether a worker, or a producer, has renewed its lease lately."""
    # Half a lease, which is at least a heartbeat and a half: were it a whole one, a pause a little shorter
    # would go unnoticed, and cost those their lease who were heard a little before it.
    workers = tables.workers
    heard = select(workers.c.id).where(workers.c.id != SWEEP, workers.c.heartbeat_at > seconds_ago(lease / 2))
    return connection.execute(heard.limit(1)).first() is not None


def silent(connection: Connection, tables: Tables, lease: float) -> list[str]:
    """Workers whose lease has run out, and ids under which jobs run that have no lease at all."""
    workers, jobs = tables.workers, tables.jobs
    expired = select(workers.c.id).where(workers.c.id != SWEEP, workers.c.heartbeat_at <= seconds_ago(lease))
    unknown = (
        select(jobs.c.worker_id)
        .where(jobs.c.worker_id.is_not(None), ~exists().where(workers.c.id == jobs.c.worker_id))
        .distinct()
    )
    return sorted({*connection.scalars(expired), *connection.scalars(unknown)})


def held_by(
    connection: Connection, tables: Tables, worker_id: str, after: str = "", limit: int = 1000
) -> list[Held]:
    """The jobs that run under a worker's lease, from behind an id on."""
    jobs = tables.jobs
    statement = (
        select(jobs.c.id, jobs.c.token, jobs.c.kind, jobs.c.batch_id)
        .where(jobs.c.worker_id == worker_id, jobs.c.state == JobState.RUNNING, jobs.c.id > after)
        .order_by(jobs.c.id)
        .limit(limit)
    )
    return [Held(*row) for row in connection.execute(statement)]


def left_by(connection: Connection, tables: Tables, worker_id: str, after: str, limit: int) -> list[Held]:
    """What runs under the lease of a worker that was given up, from behind an id on.

    Not what it has claimed since, having come back.
    """
    jobs, workers = tables.jobs, tables.workers
    is_later = (workers.c.id == worker_id) & (workers.c.started_at <= jobs.c.started_at)
    statement = (
        select(jobs.c.id, jobs.c.token, jobs.c.kind, jobs.c.batch_id)
        .where(jobs.c.worker_id == worker_id, jobs.c.state == JobState.RUNNING, ~exists().where(is_later))
        .where(jobs.c.id > after)
        .order_by(jobs.c.id)
        .limit(limit)
    )
    return [Held(*row) for row in connection.execute(statement)]


def reserve(connection: Connection, tables: Tables, worker_id: str, reserved: dict[str, int]) -> None:
    """Note which jobs wait in a worker's memory, so that they are not forgotten with it."""
    _waiting(connection, tables, reserved, update(tables.jobs).values(worker_id=worker_id))


def let_go(connection: Connection, tables: Tables, worker_id: str, gone: dict[str, int]) -> None:
    """Forget that jobs wait in the memory of a worker that no longer has their messages and has not run them."""
    mine = update(tables.jobs).where(tables.jobs.c.worker_id == worker_id)
    _waiting(connection, tables, gone, mine.values(worker_id=None))


def _waiting(connection: Connection, tables: Tables, found: dict[str, int], change: Update) -> None:
    """Change those of these jobs, by id, that wait under these delivery numbers."""
    jobs = tables.jobs
    by_delivery: dict[int, list[str]] = {}
    for job_id, number in found.items():
        by_delivery.setdefault(number, []).append(job_id)
    for number, ids in by_delivery.items():
        waiting = change.where(jobs.c.id.in_(ids), jobs.c.delivery == number)
        connection.execute(waiting.where(one_of(jobs.c.state, CLAIMABLE)))


def release(connection: Connection, tables: Tables, worker_id: str) -> None:
    """Forget what waited in a worker's memory: it gave the messages back to the broker."""
    jobs = tables.jobs
    waiting = update(jobs).where(jobs.c.worker_id == worker_id, one_of(jobs.c.state, CLAIMABLE))
    connection.execute(waiting.values(worker_id=None))


def take_reserved(connection: Connection, tables: Tables, worker_id: str, limit: int) -> list[ReadyJob]:
    """Take over what waited in a dead worker's memory, under the next delivery number."""
    jobs = tables.jobs
    waiting = select(*ReadyJob.columns(tables)).where(jobs.c.worker_id == worker_id)
    waiting = waiting.where(one_of(jobs.c.state, CLAIMABLE)).order_by(jobs.c.id).limit(limit)
    rows = connection.execute(waiting.with_for_update()).all()
    return take(connection, tables, [ReadyJob(*row) for row in rows])


def take_unclaimed(connection: Connection, tables: Tables, job_id: str, delivery: int) -> list[ReadyJob]:
    """Take over one delivery that nobody has claimed."""
    jobs = tables.jobs
    unclaimed = select(*ReadyJob.columns(tables)).where(jobs.c.id == job_id, jobs.c.delivery == delivery)
    rows = connection.execute(unclaimed.where(one_of(jobs.c.state, CLAIMABLE)).with_for_update()).all()
    return take(connection, tables, [ReadyJob(*row) for row in rows])


def end(connection: Connection, tables: Tables, worker_id: str, lease: float) -> bool:
    """Delete a worker's row if it has been silent for `lease` seconds; say whether there is none now.

    From then on it can't claim, until it renews, which makes it a new row.
    """
    workers = tables.workers
    mine = workers.c.id == worker_id
    connection.execute(delete(workers).where(mine, workers.c.heartbeat_at <= seconds_ago(lease)))
    return connection.execute(select(workers.c.id).where(mine)).first() is None


def every(connection: Connection, tables: Tables) -> Sequence[Any]:
    """All workers, with the seconds since each was heard."""
    workers, jobs = tables.workers, tables.jobs
    runs = (
        select(func.count(jobs.c.id))
        .where(jobs.c.worker_id == workers.c.id, jobs.c.state == JobState.RUNNING)
        .scalar_subquery()
    )
    statement = select(workers, utcnow().label("now"), runs.label("jobs")).where(workers.c.id != SWEEP)
    return connection.execute(statement.order_by(workers.c.hostname, workers.c.id)).all()
