"""What the probe costs: it is asked after each job, so it must not grow with the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scenes import running_batch
from sqlalchemy import Connection, text

from celery_flows.store.database import Database
from celery_flows.store.jobs import probe

#: Entries that the probe may touch. Going through the batch would be all of its jobs.
FEW, JOBS = 20, 2000


def _buffers(connection: Connection, statement: str) -> int:
    plan: Any = connection.scalar(text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"))
    return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])


def _reads(connection: Connection, statement: str) -> int:
    connection.execute(text("FLUSH STATUS"))
    connection.execute(text(statement)).all()
    return sum(int(number) for _, number in connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")))


def _sorts(connection: Connection, statement: str) -> int:
    plan = str(connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")).all())
    return JOBS if "TEMP B-TREE" in plan or "SCAN" in plan else 1


COSTS: dict[str, Callable[[Connection, str], int]] = {"postgresql": _buffers, "mysql": _reads, "sqlite": _sorts}


@pytest.mark.parametrize("is_analyzed", [False, True], ids=["without statistics", "with statistics"])
def test_the_probe_reads_a_few_entries_however_many_jobs_there_are(database: Database, is_analyzed: bool) -> None:
    """It takes one entry from the end of its index, also beside a newer batch, and before the first ANALYZE."""
    batch_id, _ = running_batch(database, JOBS)
    running_batch(database, JOBS)
    statement = str(probe(database.tables, database.dialect).compile(dialect=database.engine.dialect))
    statement = statement.replace("%(batch_id)s", f"'{batch_id}'").replace(":batch_id", f"'{batch_id}'")
    statement = statement.replace(":param_1", "0")  # SQLite's OFFSET
    with database.reading() as connection:
        if is_analyzed:
            table = database.tables.jobs.name
            connection.execute(text(f"ANALYZE {'TABLE ' if database.dialect == 'mysql' else ''}{table}"))
        assert COSTS[database.dialect](connection, statement) <= FEW
