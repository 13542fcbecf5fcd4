"""What the sweep does: find what a crash left behind, and repair it with the same transitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from celery_flows.codec import decode
from celery_flows.states import JobState
from celery_flows.store import batches, edges, jobs, publishing, vanished, workers
from celery_flows.store.database import Connection, Database
from celery_flows.store.jobs import Ending
from celery_flows.store.publishing import ReadyJob
from celery_flows.store.tables import Tables
from celery_flows.transitions.finalize import advance, is_decidable, report
from celery_flows.transitions.settle import follow, settle

#: Jobs that are ended in one pass, and batches that are looked for in one go.
_LIMIT: Final = 1000


def take_turn(database: Database, interval: float) -> bool:
    """Take this interval's turn at the sweep; False where another process has it."""
    return database.transact(workers.take_sweep_turn, database.tables, interval)


def take_overdue(database: Database, age: float, limit: int) -> list[ReadyJob]:
    """Take over up to `limit` jobs that somebody meant to publish `age` seconds ago and did not."""
    return database.transact(publishing.take_overdue, database.tables, age, limit)


def take_vanished(
    database: Database, age: float, limit: int, is_empty: Callable[[str], bool]
) -> Iterator[list[ReadyJob]]:
    """Take over jobs that are queued although their queue has nothing, or has been read to far behind them.

    That is where no worker is known to hold their messages. Never by age alone: in a long backlog every
    message is old and none is gone.

    Args:
        age: seconds in the queue before a job is looked at, and by which it must have been overtaken; twice
            as many after each further publish.
        limit: jobs to take at a time.
        is_empty: asks the broker whether a queue has no message.
    """
    with database.reading() as connection:
        queues = vanished.queues(connection, database.tables, age)
    for queue in queues:
        if is_empty(queue):
            while taken := database.transact(_take_waiting, database.tables, queue, age, limit):
                yield taken
        else:
            yield from _take_overtaken(database, queue, age, limit)


def _take_waiting(connection: Connection, tables: Tables, queue: str, age: float, limit: int) -> list[ReadyJob]:
    return publishing.take(connection, tables, vanished.find(connection, tables, queue, age, limit))


def _take_overtaken(database: Database, queue: str, age: float, limit: int) -> Iterator[list[ReadyJob]]:
    with database.reading() as connection:
        passed = vanished.fronts(connection, database.tables).get(queue)
    after: str | None = "" if passed is not None else None
    while after is not None:
        overtaken = database.transact(_take_behind, database.tables, queue, age, limit, passed or 0.0, after)
        if overtaken.taken:
            yield overtaken.taken
        after = overtaken.last


class _Overtaken(NamedTuple):
    taken: list[ReadyJob]
    #: The last that was looked at; None: there are no more.
    last: str | None


def _take_behind(
    connection: Connection, tables: Tables, queue: str, age: float, limit: int, passed: float, after: str
) -> _Overtaken:
    found = vanished.find(connection, tables, queue, age, limit, passed=passed, after=after)
    # A message with a priority may be overtaken for good reason.
    taken = publishing.take(connection, tables, [job for job in found if "priority" not in decode(job.options)])
    return _Overtaken(taken, found[-1].id if len(found) == limit else None)


def release_left(database: Database, age: float) -> tuple[list[str], list[ReadyJob]]:
    """Release what waits for jobs that ended `age` seconds ago, where whoever should have has died.

    Returns:
        The jobs that had ended, and those that became ready.
    """
    with database.reading() as connection:
        found = edges.unreleased(connection, database.tables, age, _LIMIT)
        ended = [jobs.find(connection, database.tables, job_id) for job_id in found]
    ready = [
        one
        for row in ended
        if row is not None
        for one in follow(database, row.id, row.batch_id, None, went_wrong=True)
    ]
    return found, ready


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
