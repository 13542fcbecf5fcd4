"""Celery's own pytest fixtures work with a Flows app, as a user's test suite uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUITE = """
import time

import pytest
from celery.contrib.pytest import *  # pytest-celery, if installed, has others of these names
from celery_flows import Batch, Flows, current_job
from celery_flows.errors import ConfigurationError
from celery_flows.testing import assert_callback, drain, in_memory


@pytest.fixture(scope="session")
def celery_config(flows_database):
    return {
        "broker_url": "memory://",
        "broker_transport_options": {"polling_interval": 0.01},
        "result_backend": "cache+memory://",
        "flows_database_url": flows_database,
    }


@pytest.fixture(scope="session")
def celery_includes():
    return ["celery.contrib.testing.tasks"]


def define(app):
    Flows(app)
    app.conf.task_default_queue = f"queue-{id(app)}"
    notes = []

    @app.task(bind=True, shared=False)
    def square(self, n):
        assert self.job.batch.progress.total == 3
        return n * n

    @app.task(shared=False)
    def done(batch_id):
        notes.append((batch_id, current_job().batch.status))

    return square, done, notes


@pytest.fixture
def tasks(celery_app):
    return define(celery_app)


@pytest.fixture(scope="session")
def session_tasks(celery_session_app):
    return define(celery_session_app)


def check(app, square, done, notes):
    batch = Batch.create(app=app).on("settled", done)
    with batch.jobs():
        results = [square.delay(n) for n in range(3)]
    assert batch.wait(timeout=30) == "complete"
    assert [result.get(timeout=30) for result in results] == [0, 1, 4]
    deadline = time.monotonic() + 30
    while not notes:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert notes == [(batch.id, "complete")]
    notes.clear()


def test_celery_worker(celery_app, flows_setup, tasks, celery_worker):
    check(celery_app, *tasks)
    with pytest.raises(ConfigurationError, match="celery_worker. takes the messages of app 'celery.tests': wait"):
        drain(celery_app)
    with pytest.raises(ConfigurationError, match="flows_setup before celery_worker"), in_memory(celery_app):
        pass


def test_drain(celery_app, flows_worker, tasks):
    batch = Batch.create(app=celery_app).on("complete", tasks[1])
    with batch.jobs():
        results = [tasks[0].delay(n) for n in range(3)]
    assert flows_worker.app is celery_app
    assert len(flows_worker.drain()) == 4
    assert_callback(batch, "complete")
    assert [result.get(timeout=1) for result in results] == [0, 1, 4]


@pytest.mark.parametrize("n", [1, 2])
def test_celery_session_worker(celery_session_app, session_tasks, celery_session_worker, n):
    check(celery_session_app, *session_tasks)


@pytest.mark.celery(task_always_eager=True)
def test_eager(celery_app, tasks):
    check(celery_app, *tasks)
"""


def test_a_suite_with_celerys_fixtures(tmp_path: Path) -> None:
    """celery_app, celery_worker, celery_session_worker and the celery mark run batches with callbacks.

    Together with celery_flows.testing, whose fixtures come between, and with pytest-celery, which is installed.
    """
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["celery_flows.testing"]')
    (tmp_path / "test_shop.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
    )
    assert "5 passed" in done.stdout, done.stdout + done.stderr
