"""Sweep: a pass over many running jobs of which none is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import event, func, select, update

from benchmarks.case import Case, Figures, Of, Question, at_most
from benchmarks.rows import run_jobs
from benchmarks.services import World
from celery_flows.ids import new_id
from celery_flows.messaging.sweep import sweep, sweep_in_turn
from celery_flows.store.database import Connection, Database
from celery_flows.store.tables import Tables
from celery_flows.store.types import seconds_ago
from celery_flows.store.workers import SWEEP
from celery_flows.transitions.lease import renew

#: They are of a hundred batches, run by ten workers, and have been running for an hour, each.
_BATCHES: Final = 100
_WORKERS: Final = 10
_AGE: Final = 3600.0

_LEASE: Final = 60.0


def passes(world: World, n: int) -> Figures:
    """Two passes: one timed, and one that is looked at whenever it is about to commit."""
    workers = [new_id() for _ in range(_WORKERS)]
    run_jobs(world, n, batches=min(n, _BATCHES), workers=workers, age=_AGE)
    database = world.database
    sweep_in_turn(world.runtime)
    for one in workers:
        renew(database, one, "bench", 1, _LEASE)
    # The workers have been heard all the time, so that a silent one would be given up.
    database.transact(_calm, database.tables)
    started = time.perf_counter()
    swept = sweep(world.runtime)
    seconds = time.perf_counter() - started
    assert (swept.lost, swept.published, swept.expired, swept.batches) == (0, 0, 0, ())
    with _locks_seen(database, n) as locked:
        sweep(world.runtime)
    assert locked or database.dialect == "sqlite", "nothing was looked at"
    database.transact(_forget, database.tables)
    return {"ms per pass": 1e3 * seconds, "rows locked": max(locked, default=0)}


def _calm(connection: Connection, tables: Tables) -> None:
    workers = tables.workers
    connection.execute(update(workers).where(workers.c.id == SWEEP).values(started_at=seconds_ago(_AGE)))


def _forget(connection: Connection, tables: Tables) -> None:
    connection.execute(tables.workers.delete().where(tables.workers.c.hostname == "bench"))


@contextmanager
def _locks_seen(database: Database, jobs: int) -> Iterator[list[int]]:
    """Count, before each commit, the rows of jobs and batches that another connection could not lock.

    SQLite has no locks of rows: whoever writes, locks all, so nothing is counted there.
    """
    seen: list[int] = []
    watcher = Database(database.url)
    tables = watcher.tables

    def free(connection: Connection, *tables_: Any) -> int:
        counted = [select(one.c.id).with_for_update(skip_locked=True) for one in tables_]
        return sum(len(connection.execute(one).all()) for one in counted)

    def look(_connection: Connection) -> None:
        seen.append(total - watcher.transact(free, tables.jobs, tables.batches))

    with watcher.reading() as connection:
        counts = [select(func.count()).select_from(one) for one in (tables.jobs, tables.batches)]
        total = sum(connection.scalar(one) or 0 for one in counts)
    listens: Callable[..., None] = event.listen if database.dialect != "sqlite" else _nothing
    listens(database.engine, "commit", look)
    try:
        yield seen
    finally:
        if database.dialect != "sqlite":
            event.remove(database.engine, "commit", look)
        watcher.close()


def _nothing(*_: Any) -> None:
    return


CASE = Case(
    name="sweep",
    about=f"a pass over running jobs of {_BATCHES} batches and {_WORKERS} workers, none of them lost",
    n=100_000,
    sides={"ours": passes},
    questions=[
        Question(Of("ours", "ms per pass"), target=at_most(100)),
        Question(Of("ours", "rows locked"), target=at_most(0)),
    ],
)
