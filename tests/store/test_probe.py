"""What the probe and a page of jobs cost: they are asked for often, so they must not grow with the batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from locks import on_postgresql
from scenes import running_batch
from sqlalchemy import Connection, Select, event, text

from celery_flows.queries import jobs as job_queries
from celery_flows.queries.jobs import JobList
from celery_flows.queries.progress import progress
from celery_flows.states import JobState
from celery_flows.store import schema
from celery_flows.store.batches import outlook
from celery_flows.store.database import Database
from celery_flows.store.jobs import probe
from celery_flows.store.tables import Tables

#: Entries that the probe may touch. Going through the batch would be all of its jobs.
FEW, JOBS = 20, 2000

#: Jobs on a page.
PAGE = 10


def _buffers(connection: Connection, statement: str, values: Any) -> int:
    explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    plan: Any = connection.exec_driver_sql(explained, values).scalar()
    return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])


def _reads(connection: Connection, statement: str, values: Any) -> int:
    connection.execute(text("FLUSH STATUS"))
    connection.exec_driver_sql(statement, values).all()
    return sum(int(number) for _, number in connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")))


def _sorts(connection: Connection, statement: str, values: Any) -> int:
    plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all())
    return JOBS if "TEMP B-TREE" in plan or "SCAN" in plan else 1


COSTS: dict[str, Callable[[Connection, str, Any], int]] = {
    "postgresql": _buffers,
    "mysql": _reads,
    "sqlite": _sorts,
}


@pytest.mark.parametrize("is_analyzed", [False, True], ids=["without statistics", "with statistics"])
@pytest.mark.parametrize("look", [probe, outlook])
def test_the_probe_reads_a_few_entries_however_many_jobs_there_are(
    database: Database, is_analyzed: bool, look: Callable[..., Select[Any]]
) -> None:
    """It takes one entry from the end of its index, also beside a newer batch, and before the first ANALYZE."""
    batch_id, _ = running_batch(database, JOBS)
    running_batch(database, JOBS)
    compiled = look(database.tables, database.dialect).compile(dialect=database.engine.dialect)
    _check_is_cheap(database, str(compiled), dict(compiled.params) | {"batch_id": batch_id}, is_analyzed)


def _check_is_cheap(database: Database, statement: str, values: Any, is_analyzed: bool, most: int = FEW) -> None:
    with database.reading() as connection:
        if is_analyzed:
            table = database.tables.jobs.name
            connection.execute(text(f"ANALYZE {'TABLE ' if database.dialect == 'mysql' else ''}{table}"))
        assert COSTS[database.dialect](connection, statement, values) <= most


@pytest.mark.parametrize("is_analyzed", [False, True], ids=["without statistics", "with statistics"])
@pytest.mark.parametrize("outcomes", [None, [JobState.COMPLETE]], ids=["unfinished", "complete"])
@pytest.mark.parametrize(
    "read",
    [lambda jobs: jobs[:PAGE], lambda jobs: list(islice(iter(jobs), PAGE))],
    ids=["a slice", "the first of all"],
)
def test_a_page_of_jobs_reads_what_it_shows(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    is_analyzed: bool,
    outcomes: list[JobState] | None,
    read: Callable[[JobList], list[Any]],
) -> None:
    """The index gives them in their order; none is read to be put in order, of a batch however large."""
    monkeypatch.setattr(job_queries, "_PAGE", PAGE)
    batch_id, ids = running_batch(database, JOBS)
    running_batch(database, JOBS)
    if outcomes is not None:
        _complete(database, ids)
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        said.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    assert [job.id for job in read(JobList(database, batch_id, outcomes))] == ids[:PAGE]
    event.remove(database.engine, "before_cursor_execute", note)
    # A row of the index and one of the table each, and some more for the way there.
    _check_is_cheap(database, *said[-1], is_analyzed, most=FEW + 4 * PAGE)


@on_postgresql
def test_progress_reads_no_whole_table_before_there_are_statistics(new_database_url: Callable[[], str]) -> None:
    """Nor the jobs of a batch: what runs is found among what runs."""
    own = Database(new_database_url())
    schema.upgrade(own)
    batch_id, _ = running_batch(own, JOBS)
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        said.append((statement, values))

    event.listen(own.engine, "before_cursor_execute", note)
    assert progress(own, batch_id).total == JOBS
    event.remove(own.engine, "before_cursor_execute", note)
    statement, values = said[-1]
    with own.reading() as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())
    assert "flows_jobs_worker_id" in plan
    assert "Seq Scan on flows_jobs" not in plan
    own.close()


def _complete(database: Database, ids: list[str]) -> None:
    def write(connection: Connection, tables: Tables) -> None:
        connection.execute(tables.jobs.update().where(tables.jobs.c.id.in_(ids)).values(state=JobState.COMPLETE))

    database.transact(write, database.tables)
