"""Worker leases: renew one, retire one, and give up the jobs of those that ran out."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from celery_flows.states import Kind
from celery_flows.store import leases
from celery_flows.store.database import Connection, Database
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.lose import LossPolicy, Lost, lose
from celery_flows.transitions.stream import abandon_stream

logger = logging.getLogger(__name__)

_CHUNK: Final = 500


class Expired(NamedTuple):
    """What giving up workers led to."""

    lost: list[Lost]
    ready: list[ReadyJob]


def renew(database: Database, worker_id: str, hostname: str, pid: int, lease: float) -> None:
    """Say that a worker process lives, by the database's clock."""
    database.transact(_renew, database.tables, worker_id, hostname, pid, lease)


def _renew(connection: Connection, tables: Tables, worker_id: str, hostname: str, pid: int, lease: float) -> None:
    if leases.note_pause(connection, tables, lease):
        # Ordinary when the first worker starts, telling when the database was away.
        logger.info("No worker was heard of for a while: nothing is given up for %g s from now on.", lease)
    leases.renew(connection, tables, worker_id, hostname[:255], pid)


def retire(database: Database, worker_id: str, policy: LossPolicy) -> Expired:
    """End a worker's lease and hand back what still runs under it."""
    database.transact(leases.release, database.tables, worker_id)
    return _give_up(database, worker_id, 0.0, policy, "it stopped")


class Missing(NamedTuple):
    """A job that stands as running under a lease."""

    job_id: str
    token: str


def running_under(database: Database, worker_id: str) -> list[Missing]:
    """The jobs that stand as running under a worker's lease."""
    return [Missing(held.id, held.token) for held in _held_by(database, worker_id, "")]


def give_up_missing(database: Database, missing: Missing, policy: LossPolicy) -> list[ReadyJob]:
    """Give up a job that its own worker does not have."""
    return lose(database, missing.job_id, missing.token, policy, "its worker no longer has it")[1]


def mark_reserved(database: Database, worker_id: str, reserved: dict[str, int]) -> None:
    """Note which jobs' messages wait in a worker's memory, by id, with their delivery numbers."""
    database.transact(leases.reserve, database.tables, worker_id, reserved)


def mark_gone(database: Database, worker_id: str, gone: dict[str, int]) -> None:
    """Note which of them wait there no more: those that nobody has claimed may have to be sent again."""
    database.transact(leases.let_go, database.tables, worker_id, gone)


def send_again(database: Database, job_id: str, delivery: int) -> list[ReadyJob]:
    """Take over a message that a worker has and does not run, under the next delivery number."""
    return database.transact(leases.take_unclaimed, database.tables, job_id, delivery)


def expire(database: Database, lease: float, policy: LossPolicy) -> Expired:
    """Give up the jobs of workers that have been silent for a lease's time.

    Not in the time right after nobody was heard: then the database was away, and the workers may live.
    """
    with database.reading() as connection:
        if not leases.is_calm(connection, database.tables, lease):
            return Expired([], [])
        silent = leases.silent(connection, database.tables, lease)
    found = [_give_up(database, worker_id, lease, policy, f"not heard of for {lease:g} s") for worker_id in silent]
    return Expired([lost for one in found for lost in one.lost], [job for one in found for job in one.ready])


def _give_up(database: Database, worker_id: str, lease: float, policy: LossPolicy, reason: str) -> Expired:
    expired, after = Expired([], []), ""
    # The row goes first: a worker that comes back in this moment keeps its jobs, or has lost them all.
    if not database.transact(leases.end, database.tables, worker_id, lease):
        return expired
    while held := _left_by(database, worker_id, after):
        for claim in held:
            lost, ready = _lose(database, claim, policy, f"worker {worker_id}: {reason}")
            expired.ready.extend(ready)
            expired.lost.extend([lost] if lost is not None else [])
        after = held[-1].id
    while taken := database.transact(leases.take_reserved, database.tables, worker_id, _CHUNK):
        expired.ready.extend(taken)
    return expired


def _lose(
    database: Database, claim: leases.Held, policy: LossPolicy, reason: str
) -> tuple[Lost | None, list[ReadyJob]]:
    if claim.kind != Kind.BLOCK or claim.batch_id is None:
        return lose(database, claim.id, claim.token, policy, reason)
    ready = abandon_stream(database, claim.id, claim.batch_id, "its producer died.")
    return Lost(claim.id, False, claim.batch_id, None, []), ready


def _left_by(database: Database, worker_id: str, after: str) -> list[leases.Held]:
    with database.reading() as connection:
        return leases.left_by(connection, database.tables, worker_id, after, _CHUNK)


def _held_by(database: Database, worker_id: str, after: str) -> list[leases.Held]:
    with database.reading() as connection:
        return leases.held_by(connection, database.tables, worker_id, after, _CHUNK)
