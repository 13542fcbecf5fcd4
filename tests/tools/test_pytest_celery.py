"""pytest-celery 1.x with a Flows app: its nodes are local processes here, where it would start containers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestContainer,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
)

from celery_flows import Batch, Flows
from celery_flows.errors import ConfigurationError
from celery_flows.testing import assert_callback, assert_enrolled, drain

PROJECT = """
import os
from celery import Celery
from celery_flows import Flows, current_job

app = Celery("shop", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(task_default_queue="pytest-celery", worker_prefetch_multiplier=1)
Flows(app, database_url=os.environ["DATABASE"])

@app.task
def square(n):
    return n * n

@app.task
def done(batch_id):
    print(f"DONE {batch_id} {current_job().batch.status}")
"""


class Service(CeleryTestContainer):
    """A broker or result backend that runs already."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self._url, "host_url": self._url}

    def ready(self) -> bool:
        return True


class WorkerProcess(CeleryTestContainer):
    """A worker in a process of its own; kill and restart are those of a container."""

    name = id = "worker-process"

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._folder, self._variables, self._log = folder, os.environ | variables, folder / "worker.log"
        (folder / "shop.py").write_text(PROJECT)
        self._start()

    def _start(self) -> None:
        words = ["-m", "celery", "-A", "shop", "worker", "--concurrency=1", "--loglevel=INFO", "-n", self.name]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, *words], cwd=self._folder, env=self._variables, stdout=log, stderr=log
            )

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {}

    @property
    def status(self) -> str:
        return "running" if self._process.poll() is None else "exited"

    @property
    def ready_prompt(self) -> str:
        return f"{self.name} ready."

    def ready(self) -> bool:
        return self._wait_ready()

    def logs(self) -> str:
        return self._log.read_text()

    def reload(self) -> None:
        """A process has nothing to read again."""

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = _number(signal)
        self._process.send_signal(number)
        self._process.wait(timeout=60)

    def restart(self, timeout: int = 60) -> None:
        if self.status == "running":
            self.kill("SIGTERM")
        self._log.write_text("")
        self._start()
        self._wait_ready()

    def teardown(self) -> None:
        if self.status == "running":
            self.kill("SIGTERM")


def _number(name: str | int) -> int:
    return signal.Signals[name] if isinstance(name, str) else name


@pytest.fixture
def celery_broker_cluster(redis_url: str) -> CeleryBrokerCluster:
    """This run's Redis, as the broker."""
    return CeleryBrokerCluster(CeleryTestBroker(Service(redis_url)))


@pytest.fixture
def celery_backend_cluster(redis_url: str) -> CeleryBackendCluster:
    """This run's Redis, as the result backend."""
    return CeleryBackendCluster(CeleryTestBackend(Service(redis_url)))


@pytest.fixture
def celery_worker_cluster(
    celery_setup_app: Celery, redis_url: str, file_url: str, tmp_path: Path
) -> Iterator[CeleryWorkerCluster]:
    """One worker process."""
    process = WorkerProcess(tmp_path, {"BROKER": redis_url, "DATABASE": file_url})
    cluster = CeleryWorkerCluster(CeleryTestWorker(process, celery_setup_app))
    yield cluster
    process.teardown()


@pytest.fixture
def celery_setup_config(redis_url: str) -> dict[str, Any]:
    """What the app of the tests' own process is configured with."""
    return {"broker_url": redis_url, "result_backend": redis_url, "task_default_queue": "pytest-celery"}


@pytest.fixture
def celery_setup_app(celery_setup_config: dict[str, Any], file_url: str) -> Celery:
    """The app in the tests' own process: with Flows, and with the names of the worker's tasks."""
    app = Celery("shop", set_as_current=False)
    app.config_from_object(celery_setup_config)
    Flows(app, database_url=file_url)
    for name in ("shop.square", "shop.done"):
        app.task(_elsewhere, name=name, shared=False)
    return app


def _elsewhere(argument: Any) -> None:
    raise AssertionError("tasks run in the worker")


def test_batches_across_a_restart(celery_setup: CeleryTestSetup) -> None:
    """Batches are run by the worker; one that is filled while the worker is dead is run by the next."""
    app, worker = celery_setup.app, celery_setup.worker
    assert celery_setup.ready(ping=False, control=True, docker=True)
    first = filled(app)
    assert first.wait(timeout=60) == "complete"
    worker.wait_for_log(f"DONE {first.id} complete")
    assert [job.args for job in assert_enrolled("shop.square", batch=first, times=3)] == [[0], [1], [2]]
    assert_callback(first, "complete", "shop.done", ran=False)
    with pytest.raises(ConfigurationError, match="app 'shop' has 'redis'"):
        drain(app)
    worker.kill()
    second = filled(app)
    assert second.progress.pending == 3
    worker.restart()
    assert second.wait(timeout=60) == "complete"
    worker.wait_for_log(f"DONE {second.id} complete")


def filled(app: Celery) -> Batch:
    """A batch of three jobs."""
    batch = Batch.create(app=app).on("complete", app.tasks["shop.done"])
    with batch.jobs():
        for n in range(3):
            app.tasks["shop.square"].delay(n)
    return batch
