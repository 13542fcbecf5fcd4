"""A database that was restored from a backup, beside a broker that was not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from apps import flows_app, messages, notes_of, rows, runtime_of, work
from celery import Celery
from scenes import age

from celery_flows import Batch, BatchNotFound
from celery_flows.messaging.sweep import sweep
from celery_flows.store import schema
from celery_flows.store.database import Database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database that is a file, with our tables."""
    file = tmp_path / "flows.sqlite3"
    database = Database(f"sqlite:///{file}")
    schema.upgrade(database)
    database.close()
    return file


@pytest.fixture
def app(file: Path) -> Iterator[Celery]:
    """An app on it."""
    with flows_app(f"sqlite:///{file}") as app:
        yield app


def noted(app: Celery, what: str) -> Batch:
    """A batch of one job that leaves a note, with a callback that does so too."""
    batch = Batch.create(app=app).on("complete", app.tasks["shop.note"].si(f"{what} is complete"))
    with batch.jobs():
        app.tasks["shop.note"].delay(what)
    return batch


def copied(app: Celery, one: Path, other: Path) -> None:
    """Copy the database's file, with nobody at it."""
    runtime_of(app).database.close()
    shutil.copy(one, other)


def test_a_restored_database_goes_on_from_where_it_was(app: Celery, file: Path, tmp_path: Path) -> None:
    """What ran since the backup runs again, with its callbacks; messages without rows are dropped."""
    backup = tmp_path / "backup"
    early = noted(app, "early")
    copied(app, file, backup)
    work(app)
    late = noted(app, "late")
    assert notes_of(app) == [("early",), ("early is complete",)]
    copied(app, backup, file)
    work(app)
    assert len(notes_of(app)) == 2
    assert early.status == "running"
    with pytest.raises(BatchNotFound):
        Batch.get(late.id, app=app)
    [job] = rows(app, batch_id=early.id)
    age(runtime_of(app).database, "queued_at", [job.id], 3600)
    assert sweep(runtime_of(app)).published == 1
    work(app)
    assert notes_of(app)[2:] == [("early",), ("early is complete",)]
    assert (early.status, messages(app)) == ("complete", [])
