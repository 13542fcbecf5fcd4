"""in_memory: an app's broker, results and database, put elsewhere for a test and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from apps import flows_app, messages, rows, runtime_of, shop_tasks
from celery import Celery, current_app

from celery_flows import Batch
from celery_flows.errors import ConfigurationError
from celery_flows.store import schema
from celery_flows.store.database import Database
from celery_flows.testing import in_memory

VARIABLES = ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "CELERY_FLOWS_DATABASE_URL")


def enroll(app: Celery) -> Batch:
    """A batch of a job."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.add"].delay(1)
    return batch


def test_everything_is_as_it_was_after_it(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, the app's own connections and the current app; what was left in the queue is gone."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere/0")
    before, was = {name: os.environ.get(name) for name in VARIABLES}, current_app._get_current_object()
    with in_memory(app) as worker:
        enroll(app)
        assert current_app._get_current_object() is app
        results = [app.tasks["shop.add"].delay(2, y=number) for number in range(2)]
        worker.drain()
        assert [result.get(timeout=1) for result in results] == [2, 3]
        enroll(app)
    assert {name: os.environ.get(name) for name in VARIABLES} == before
    assert current_app._get_current_object() is was
    assert runtime_of(app).database.url.host == "nowhere"
    assert (app.connection_for_write().hostname, type(app.backend).__name__) == ("elsewhere", "RedisBackend")
    with in_memory(app) as worker:
        assert (worker.drain(), rows(app)) == ([], [])


def test_an_app_that_has_connections(file_url: str) -> None:
    """What it has published before is not taken for the test's, and what comes after goes to its own broker."""
    with flows_app(file_url) as app:
        before = enroll(app)
        with in_memory(app) as worker:
            batch = enroll(app)
            assert [one.id for one in worker.drain()] == [job.id for job in batch.completed_jobs]
        after = enroll(app)
        assert len(messages(app)) == 2
        assert (before.progress.pending, after.progress.pending) == (1, 1)


def test_it_goes_before_every_source(app: Celery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A URL that the environment gives is not used in a test by mistake."""
    monkeypatch.setenv("CELERY_FLOWS_DATABASE_URL", f"sqlite:///{tmp_path / 'own.sqlite3'}")
    with in_memory(app):
        enroll(app)
    assert not (tmp_path / "own.sqlite3").exists()


def test_an_app_without_results(app: Celery) -> None:
    """It has none in a test either."""
    app.conf.result_backend = None
    with in_memory(app):
        assert type(app.backend).__name__ == "DisabledBackend"


def test_an_app_without_flows() -> None:
    """It gets them, as the app of Celery's own fixture needs them."""
    app = Celery("plain", set_as_current=False)
    shop_tasks(app)
    with in_memory(app) as worker:
        batch = enroll(app)
        worker.drain()
        assert batch.status == "complete"


def test_a_database_of_the_users(app: Celery, database_url: str) -> None:
    """On each of the three: it gets the tables that it lacks, is judged by a clock, and is left empty."""
    database = Database(database_url, prefix="own_")
    app.conf.flows_table_prefix = "own_"
    try:
        with in_memory(app, database_url=database_url) as worker:
            clock = worker.freeze()
            batch = enroll(app)
            worker.die()
            clock.advance(minutes=2)
            assert (worker.sweep().lost, batch.status) == (1, "failed")
        assert rows(database) == []
    finally:
        schema.downgrade(database, "base")
        database.close()


def test_a_database_that_is_in_use(app: Celery, file_url: str) -> None:
    """One that holds batches is not the tests': nothing is deleted."""
    with flows_app(file_url, "other") as other:
        enroll(other)
        with (
            pytest.raises(ConfigurationError, match=r"sqlite3 holds batches, and every test leaves it empty"),
            in_memory(app, database_url=file_url),
        ):
            raise AssertionError("it was let in")
        assert len(rows(other)) == 1


def test_a_clock_does_not_outlive_it(app: Celery) -> None:
    """The next test begins with the database's own time."""
    with in_memory(app) as worker:
        worker.freeze().advance(days=10)
    assert runtime_of(app).clock is None
