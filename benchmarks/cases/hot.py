"""Hot: many connections settle jobs of one batch, where a counter would make its row the bottleneck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Table, Update, bindparam, update

from benchmarks.case import Case, Figures, at_least, beside
from benchmarks.crowd import Act, crowd
from benchmarks.rows import TOKEN, Running, run_jobs
from benchmarks.services import World
from celery_flows.states import JobState
from celery_flows.store.database import Database
from celery_flows.store.jobs import Ending
from celery_flows.store.statements import word
from celery_flows.store.types import utcnow
from celery_flows.transitions.settle import settle

_CONNECTIONS: Final = 32


def _settling(database: Database) -> Act:
    return lambda job: settle(
        database, Ending(job.id, JobState.COMPLETE, delivery=1, token=TOKEN), batch_id=job.batch_id
    )


def _bare(database: Database) -> Act:
    """The one UPDATE that nobody can do without, straight on a cursor that stays open."""
    jobs = database.tables.jobs
    values = {"state": word(JobState.COMPLETE), "ended_at": utcnow()}
    end = _executing(database, _cursor(database), update(jobs).values(values), jobs)
    return lambda job: end(job.id)


def _counting(database: Database) -> Act:
    """The same, and a counter in the batch's row, here its round: what celery-flows does without."""
    jobs, batches, cursor = database.tables.jobs, database.tables.batches, _cursor(database)
    values = {"state": word(JobState.COMPLETE), "ended_at": utcnow()}
    end = _executing(database, cursor, update(jobs).values(values), jobs)
    count = _executing(database, cursor, update(batches).values(round=batches.c.round + 1), batches)

    def act(job: Running) -> None:
        end(job.id)
        count(job.batch_id)

    return act


def _cursor(database: Database) -> Any:
    return database.engine.raw_connection().cursor()


def _executing(database: Database, cursor: Any, statement: Update, table: Table) -> Callable[[str], object]:
    compiled = statement.where(table.c.id == bindparam("at_id")).compile(dialect=database.engine.dialect)
    sql, values = str(compiled), dict(compiled.params)
    return lambda row_id: cursor.execute(sql, values | {"at_id": row_id})


def _rate(world: World, n: int, prepare: Callable[[Database], Act]) -> Figures:
    return {"jobs/s": n / crowd(world, _CONNECTIONS, run_jobs(world, n), prepare)}


CASE = Case(
    name="hot",
    about=f"{_CONNECTIONS} database connections settle jobs of one batch",
    n=20_000,
    sides={
        "ours": lambda world, n: _rate(world, n, _settling),
        "bare UPDATE": lambda world, n: _rate(world, n, _bare),
        "with a counter": lambda world, n: _rate(world, n, _counting),
    },
    questions=beside("jobs/s", bare_UPDATE=at_least(0.85), with_a_counter=None),
)
