"""What the sweep does: find what a crash left behind, and repair it with the same transitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from celery_flows.states import JobState
from celery_flows.store import batches, jobs, vanished, workers
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending, ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.finalize import advance, is_decidable, report
from celery_flows.transitions.settle import settle

#: Jobs that are ended in one pass, and batches that are looked for in one go.
_LIMIT: Final = 1000


def take_turn(database: Database, interval: float) -> bool:
    """Take this interval's turn at the sweep; False where another process has it."""
    return database.transact(workers.take_sweep_turn, database.tables, interval)


def take_overdue(database: Database, age: float, limit: int) -> list[ReadyJob]:
    """Take over up to `limit` jobs that somebody meant to publish `age` seconds ago and did not."""
    return database.transact(jobs.take_overdue, database.tables, age, limit)


def take_vanished(
    database: Database, age: float, limit: int, is_empty: Callable[[str], bool]
) -> Iterator[list[ReadyJob]]:
    """Take over jobs that are queued, while their queue has nothing and no worker is known to hold them.

    Never by age alone: in a long backlog every message is old and none is gone.

    Args:
        age: seconds in the queue before a job is looked at; twice as many after each further publish.
        limit: jobs to take at a time.
        is_empty: asks the broker whether a queue has no message.
    """
    with database.reading() as connection:
        queues = vanished.queues(connection, database.tables, age)
    for queue in queues:
        if is_empty(queue):
            while taken := database.transact(vanished.take, database.tables, queue, age, limit):
                yield taken


def cancel_expired(database: Database) -> tuple[list[str], list[ReadyJob]]:
    """End jobs that expired before a worker claimed them; RabbitMQ drops such messages itself.

    Returns:
        Their ids, and the callbacks that became ready.
    """
    with database.reading() as connection:
        found = jobs.expired(connection, database.tables, _LIMIT)
    ready: list[ReadyJob] = []
    for row in found:
        ending = Ending(row.id, JobState.CANCELLED, error_message="expired", delivery=row.delivery)
        ready += settle(database, ending, batch_id=row.batch_id, announces_id=row.announces_id)
    return [row.id for row in found], ready


def recover_batches(database: Database) -> tuple[list[str], list[ReadyJob]]:
    """Decide about batches where whoever should have decided died before.

    Returns:
        The batches concerned, and their callbacks that became ready.
    """
    found: list[str] = []
    ready: list[ReadyJob] = []
    for batch_id in _all(database, batches.stranded):
        if is_decidable(database, batch_id, went_wrong=True):
            found.append(batch_id)
            ready += advance(database, batch_id, went_wrong=True)
    for batch_id in _all(database, batches.unreported):
        found.append(batch_id)
        ready += report(database, batch_id)
    return found, ready


def _all(database: Database, find: Callable[[Connection, Tables, str, int], list[str]]) -> Iterator[str]:
    after = ""
    while True:
        with database.reading() as connection:
            found = find(connection, database.tables, after, _LIMIT)
        yield from found
        if len(found) < _LIMIT:
            return
        after = found[-1]
