"""Pools that make processes in other ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import celery
import pytest
from acceptance.running import PATIENCE, Project


@pytest.mark.skipif(celery.VERSION < (5, 7), reason="older Celery forks its pool on Linux")
def test_a_spawned_pool_runs_jobs(make_project: Callable[..., Project]) -> None:
    """A spawned child gets the app by pickle: its settings and the name of our fixup are enough."""
    options: dict[str, Any] = {"worker_pool_start_method": "spawn", "include": ["acceptance.app"]}
    # Celery kills a child that has not imported everything after 4 s, again and again on a busy machine.
    options["worker_proc_alive_timeout"] = 60.0
    project = make_project("redis", "postgresql", **options)
    with project.worker("prefork", 1):
        assert project.run("retried", 1).attempt == 2
        assert project.run("broken").state == "failed"


def test_children_that_live_for_one_job_run_jobs(make_project: Callable[..., Project]) -> None:
    """The pool forks again and again while the sweep's and the lease's threads use the database."""
    project = make_project("rabbitmq", "mariadb")
    once = ("--max-tasks-per-child", "1")
    with project.worker("prefork", 2, *once, sweep_interval=0.05, lease_timeout=3.0, heartbeat_interval=0.1):
        batch = project.batch()
        with batch.jobs():
            for number in range(10):
                project.add.delay(number, 1)
        assert batch.wait(PATIENCE) == "complete"
        assert project.announced(batch) == ["complete", "settled"]
