"""`current_job().transaction()` in eager apps and where messages are worked off by hand, on three databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from apps import flows_app, runtime_of, work
from celery import Celery

from celery_flows import Batch, current_job

TABLE = "test_effects"


@pytest.fixture(params=["by hand", "eager"])
def app(database_url: str, request: pytest.FixtureRequest) -> Iterator[Celery]:
    """An app with a task that writes, on a table of the user's."""
    with flows_app(database_url) as app:
        app.conf.task_always_eager = request.param == "eager"
        with runtime_of(app).database.engine.begin() as connection:
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {TABLE}"))
            connection.execute(sa.text(f"CREATE TABLE {TABLE} (name VARCHAR(50))"))
        writing_task(app)
        yield app


def writing_task(app: Celery) -> None:
    """A task that writes a row, and ends as it is told."""

    @app.task(name="shop.write", shared=False, bind=True, max_retries=1)
    def write(self: Any, how: str) -> None:
        job = current_job()
        assert job is not None
        with job.transaction() as connection:
            connection.execute(sa.text(f"INSERT INTO {TABLE} VALUES (:name)"), {"name": how})
        if how == "badly":
            raise ValueError(how)
        if how == "again" and not self.request.retries:
            raise self.retry(countdown=0)


@pytest.mark.parametrize(
    ("how", "state", "rows"), [("well", "complete", 1), ("badly", "failed", 0), ("again", "complete", 1)]
)
def test_effects_commit_with_the_success(app: Celery, how: str, state: str, rows: int) -> None:
    """An error and a retry roll back, also where the task runs in the caller's process."""
    batch = Batch.create(app=app)
    with batch.jobs():
        app.tasks["shop.write"].delay(how)
    work(app)
    assert batch.status == state
    with runtime_of(app).database.reading() as connection:
        assert connection.scalar(sa.text(f"SELECT count(*) FROM {TABLE}")) == rows


def test_there_is_no_transaction_outside_of_a_job() -> None:
    """As there is no job whose outcome it could commit with."""
    assert current_job() is None
