"""Hot, said by pgbench: the statements of the case "hot", without 32 Python processes that want the same cores."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import make_url

from benchmarks.case import Case, Figures, at_least, beside
from benchmarks.rows import TOKEN, run_jobs
from benchmarks.services import World
from celery_flows.store.jobs import complete, probe
from celery_flows.store.statements import Statement, prepare

_CONNECTIONS: Final = 32

#: The job of a client's turn, as pgbench says it.
_JOB: Final = "('job-' || :client_id || '-' || :turn)"

_BARE: Final = f"UPDATE flows_jobs SET state = 'complete', ended_at = clock_timestamp() WHERE id = {_JOB}"
_COUNT: Final = "UPDATE flows_batches SET round = round + 1 WHERE id = '{batch}'"


def _ours(world: World, n: int) -> Figures:
    # In one round trip, as over psycopg. A COMMIT stands where that has a synchronization point, which pgbench can
    # say from 17 on.
    fenced = {"at_id": _JOB, "at_delivery": "1", "at_token": f"'{TOKEN}'", "to_result": "NULL"}
    outcome, look = _said(world, complete, fenced), _said(world, probe, {"batch_id": "'{batch}'"})
    return _rate(world, n, "\\startpipeline", "BEGIN;", f"{outcome};", "COMMIT;", f"{look};", "\\endpipeline")


def _said(world: World, statement: Statement, values: Mapping[str, str]) -> str:
    """One of our statements as the driver is given it, with its values written out."""
    prepared = prepare(statement, world.database.tables, world.database.engine.dialect)
    # What it brings along is NULL or nothing.
    every = dict.fromkeys(prepared.defaults, "NULL") | values
    return re.sub(r"%\((\w+)\)s", lambda found: every[found[1]], prepared.sql)


def _rate(world: World, n: int, *statements: str) -> Figures:
    if world.database.dialect != "postgresql":
        raise SystemExit("pgbench speaks to PostgreSQL only: leave out --database")
    turns = max(1, n // _CONNECTIONS)
    jobs = run_jobs(world, turns * _CONNECTIONS, name=_name)
    script = world.scratch / "hot.sql"
    said = [" ".join(one.format(batch=jobs[0].batch_id).split()) for one in statements]
    script.write_text("\n".join(["\\set turn :turn + 1", *said, ""]))
    options = ["-n", "-M", "prepared", "-c", str(_CONNECTIONS), "-j", "2", "-t", str(turns), "-D", "turn=0"]
    done = subprocess.run(
        ["pgbench", *options, "-f", str(script), _dsn(world)], capture_output=True, text=True, check=False
    )
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise RuntimeError(f"pgbench failed: {done.stderr}")
    _check(world, len(jobs))
    return {"jobs/s": float(found[1])}


def _name(number: int) -> str:
    return f"job-{number % _CONNECTIONS}-{number // _CONNECTIONS + 1}"


def _check(world: World, number: int) -> None:
    counting = "SELECT count(*) FROM flows_jobs WHERE state = 'complete'"
    with world.database.reading() as connection:
        ended: Any = connection.exec_driver_sql(counting).scalar()
    if ended != number:
        raise RuntimeError(f"{ended} of {number} jobs have ended")


def _dsn(world: World) -> str:
    """As libpq takes it."""
    url = make_url(world.database.url).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


CASE = Case(
    name="hot-pgbench",
    about=f"the statements of {_CONNECTIONS} connections that settle jobs of one batch, said by pgbench",
    n=20_000,
    sides={
        "ours": _ours,
        "bare UPDATE": lambda world, n: _rate(world, n, f"{_BARE};"),
        "with a counter": lambda world, n: _rate(world, n, "BEGIN;", f"{_BARE};", f"{_COUNT};", "COMMIT;"),
    },
    questions=beside("jobs/s", bare_UPDATE=at_least(0.85), with_a_counter=None),
)
