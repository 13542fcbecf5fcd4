"""What is committed is not undone by a database that fails while it is published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import flows_app, rows, runtime_of, work
from celery import Celery
from sqlalchemy.exc import OperationalError

from celery_flows import Batch, Workflow, current_job
from celery_flows.messaging import publisher


class Growing(Workflow):
    def plan(self) -> None:
        self.run("shop.grow", name="grow")


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app that flows find, with a job that adds one."""
    with flows_app(file_url) as app:
        app.set_current()

        @app.task(name="shop.grow", shared=False)
        def grow() -> None:
            job = current_job()
            assert job is not None
            job.add("shop.note", 1)

        yield app


@pytest.fixture
def fails_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The database fails when it is first told what was published."""
    failures = [1]
    mark = publisher.mark_published

    def failing(*args: Any) -> Any:
        if failures and failures.pop():
            raise OperationalError("as if it were away", None, Exception("away"))
        return mark(*args)

    monkeypatch.setattr(publisher, "mark_published", failing)
    return failures


def test_a_block_returns(app: Celery, fails_once: list[int], caplog: pytest.LogCaptureFixture) -> None:
    """Who was told of an error would enroll again what is enrolled; the messages are there, and run."""
    with (batch := Batch.create()).jobs():
        app.tasks["shop.note"].delay(1)
    assert not fails_once
    assert "is committed, but the database failed" in caplog.text
    assert [row.state for row in rows(app)] == ["ready"]
    work(app)
    assert (batch.status, app.flows_test_notes) == ("complete", [(1,)])


def test_a_job_that_adds_another_goes_on(app: Celery, fails_once: list[int]) -> None:
    """It would fail, or add another once more."""
    fails_once.append(0)
    run = Growing.start()
    fails_once[:] = [1]
    work(app)
    assert (run.status, app.flows_test_notes) == ("complete", [(1,)])


def test_an_eager_jobs_own_error_is_the_callers(file_url: str) -> None:
    """What jobs raise that ran here is nobody else's."""
    with flows_app(file_url) as app:
        app.set_current()
        app.conf.update(task_always_eager=True, task_eager_propagates=True)

        @app.task(name="shop.away", shared=False)
        def away() -> None:
            raise OperationalError("mine", None, Exception("away"))

        with pytest.raises(OperationalError, match="mine"), Batch.create().jobs():
            away.delay()
        assert runtime_of(app).settings.lease_timeout
