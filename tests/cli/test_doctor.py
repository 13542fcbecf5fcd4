"""The command doctor: each check with a verdict and a remedy, and an exit code for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from apps import flows_app, runtime_of
from celery import Celery
from celery.contrib.testing.worker import start_worker
from commands import Done, here, records, run

from celery_flows import Batch, Flows
from celery_flows.store import schema
from celery_flows.store.database import Database
from celery_flows.store.revisions import HEAD

#: What is looked at, in this order.
CHECKS = [
    "versions",
    "database",
    "isolation",
    "clock",
    "schema",
    "sweep",
    "workers",
    "lag",
    "settings",
    "broker",
    "beat",
    "consumers",
    "tasks",
]


def verdicts(done: Done) -> dict[str, str]:
    """By check, what was said with --json."""
    return {one["check"]: one["verdict"] for one in map(json.loads, done.out.splitlines())}


def test_an_app(app: Celery) -> None:
    """Everything is looked at, a line each; what to do stands below. Warnings are not wrong."""
    done = here("doctor", app=app)
    said = [line.split() for line in done.out.splitlines() if not line.startswith(" ")]
    assert [words[1] for words in said if words[0] != "left"] == [one for one in CHECKS if one != "consumers"]
    lines = done.out.splitlines()
    sweep = lines.index("warning   sweep       There was no sweep yet.")
    assert lines[sweep + 1].startswith("                      → Each worker sweeps.")
    assert (done.code, done.err) == (0, "0 things wrong, 3 warnings.\n")


def test_as_json(app: Celery) -> None:
    """An object per line, with the same words each time, and nothing else."""
    found = records(here("doctor", "--json", app=app))
    assert [one["check"] for one in found] == CHECKS
    assert {frozenset(one) for one in found} == {frozenset({"check", "verdict", "fact", "remedy"})}
    assert {one["verdict"] for one in found} <= {"ok", "warning", "left out"}


def test_without_an_app(database: Database, file_url: str) -> None:
    """What needs one is said to be left out."""
    done = here("doctor", url=file_url)
    assert [line.split()[2] for line in done.out.splitlines() if "It needs your app" in line] == CHECKS[8:]
    assert done.code == 0


@pytest.mark.parametrize("kind", ["postgres_url", "mysql_url"])
def test_other_databases(request: pytest.FixtureRequest, kind: str) -> None:
    """Each by its own ways."""
    done = here("doctor", url=request.getfixturevalue(kind))
    name = {"postgres_url": "PostgreSQL", "mysql_url": ("MariaDB", "MySQL")}[kind]
    first = next(line for line in done.out.splitlines() if " database " in line)
    assert first.startswith("ok")
    assert any(one in first for one in ([name] if isinstance(name, str) else name))
    assert "ok        isolation   Our transactions are READ COMMITTED" in done.out


def test_what_unfinished_work_calls_is_registered(app: Celery) -> None:
    """A task that is gone from the code is named, with how many jobs call it."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.add"].delay(1)
        app.tasks["shop.fail"].delay()
    del app.tasks["shop.fail"]
    done = here("doctor", "--json", app=app)
    found = {one: verdict for one, verdict in verdicts(done).items() if verdict == "wrong"}
    assert (done.code, set(found)) == (1, {"tasks", "sweep", "workers"})
    assert "Not registered here: shop.fail (1 job)." in done.out


def test_without_tables(tmp_path: Path) -> None:
    """That is wrong, and what is in them is left out."""
    done = here("doctor", "--json", url=f"sqlite:///{tmp_path / 'new.sqlite3'}")
    found = verdicts(done)
    assert (done.code, found["schema"]) == (1, "wrong")
    assert {found[one] for one in ("sweep", "workers", "lag")} == {"left out"}


@pytest.mark.parametrize(("revision", "verdict", "code"), [("0001", "wrong", 1), ("9999", "warning", 0)])
def test_tables_of_another_version(tmp_path: Path, revision: str, verdict: str, code: int) -> None:
    """Older ones are wrong; newer ones are what a deploy looks like."""
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    database = Database(url)
    schema.upgrade(database)
    version = database.tables.version
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {version} SET version_num = '{revision}' WHERE version_num = '{HEAD}'")
    database.close()
    done = here("doctor", "--json", url=url)
    assert (done.code, verdicts(done)["schema"]) == (code, verdict)


def test_a_database_that_is_away(app: Celery) -> None:
    """Its exit code, and what needs none is looked at all the same."""
    app.conf.flows_database_url = "postgresql://shop:secret@127.0.0.1:1/shop"
    runtime_of(app).__dict__.pop("settings", None)
    done = here("doctor", "--json", app=app)
    found = verdicts(done)
    assert done.code == 6
    assert {one: found[one] for one in ("database", "schema", "lag", "broker", "beat", "settings")} == {
        "database": "wrong",
        "schema": "left out",
        "lag": "left out",
        "broker": "warning",
        "beat": "ok",
        "settings": "ok",
    }
    assert "secret" not in done.out
    assert "can't be reached" in done.out


def test_a_setting_that_is_wrong(app: Celery) -> None:
    """It is named, and nothing else can be looked at."""
    app.conf.flows_lease_timeout = 1.0
    done = here("doctor", "--json", app=app)
    app.conf.flows_lease_timeout = 60.0
    assert (done.code, verdicts(done)) == (1, {"versions": "ok", "settings": "wrong"})
    assert "flows_lease_timeout" in done.out


def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a finding like others, with what to install."""
    monkeypatch.setitem(__import__("sys").modules, "MySQLdb", None)
    done = here("doctor", "--json", url="mysql+mysqldb://root@127.0.0.1/shop")
    assert (done.code, verdicts(done)["database"]) == (1, "wrong")
    assert "pip install" in done.out


def test_a_broker_that_is_away(file_url: str) -> None:
    """Its URL is said without the password."""
    with flows_app(file_url) as app:
        app.conf.broker_url = "redis://:secret@127.0.0.1:1/0"
        done = here("doctor", "--json", app=app)
    found = verdicts(done)
    assert (done.code, found["broker"], found["consumers"]) == (1, "wrong", "left out")
    assert "secret" not in done.out


@pytest.fixture
def served(file_url: str, redis_url: str) -> Iterator[Celery]:
    """An app with a worker that consumes a queue of its own, on a real broker."""
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.task_default_queue = "doctor"
    Flows(app, database_url=file_url)
    app.loader.import_module("celery.contrib.testing.tasks")
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR", shutdown_timeout=30):
        yield app
    runtime_of(app).database.close()


def test_a_worker_answers(served: Celery, database: Database) -> None:
    """It holds a lease, and consumes its queue; a queue that nobody consumes is named."""
    found = verdicts(here("doctor", "--json", app=served))
    assert {found[one] for one in ("workers", "broker", "consumers", "tasks")} == {"ok"}

    @served.task(name="shop.report", shared=False)
    def report() -> None:
        """Do nothing."""

    batch = Batch.create(app=served)
    with batch.jobs():
        report.apply_async(queue="reports")
    done = here("doctor", "--json", app=served)
    assert (done.code, "1 job in queue 'reports', which nobody who answered consumes." in done.out) == (1, True)


def test_as_a_process(tmp_path: Path) -> None:
    """As people run it."""
    done = run("celery-flows", "--database-url", f"sqlite:///{tmp_path / 'a.sqlite3'}", "doctor", cwd=tmp_path)
    assert (done.code, done.err) == (1, "1 thing wrong, 0 warnings.\n")
    assert "wrong     schema      There are no tables.\n" in done.out
