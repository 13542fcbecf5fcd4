"""What a crash left behind is found and repaired; what is missing is said."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from acceptance.running import Project, Worker, wait_for
from sqlalchemy import text

from celery_flows import Batch
from celery_flows.messaging.sweep import sweep
from celery_flows.store import schema
from celery_flows.store.database import Database

#: Short enough to wait for.
SHORT = {"lease_timeout": 3.0, "heartbeat_interval": 0.4}


def wreck(project: Project) -> list[Batch]:
    """Let processes die: before a block is published, a batch decided, a callback published."""
    with project.worker("prefork", 2, patches="die_before_probe die_before_callback"):
        unprobed, _ = project.enroll("add", 1, 1)
        wait_for(lambda: ["probe"] in project.seen("died"))
        unannounced, _ = project.enroll("add", 1, 1)
        wait_for(lambda: ["callback"] in project.seen("died"))
    unpublished, _ = project.crash("die_before_publishing", "unpublished")
    assert [batch.progress.pending for batch in (unprobed, unannounced, unpublished)] == [0, 0, 1]
    assert unprobed.settled_at is None
    return [unprobed, unannounced, unpublished]


def by_thread(project: Project, running: ExitStack) -> None:
    """A worker's own thread."""
    running.enter_context(project.worker("threads", 2, sweep_interval=0.3, **SHORT))


def by_beats_task(project: Project, running: ExitStack) -> None:
    """A task that beat sends."""
    running.enter_context(project.worker("threads", 2, **SHORT))
    running.enter_context(project.beat())


def by_call(project: Project, running: ExitStack) -> None:
    """A call, from anywhere."""
    running.enter_context(project.worker("threads", 2))
    assert sweep(project.runtime, age=0).published


@pytest.mark.parametrize(
    ("repair", "broker", "database"),
    [
        (by_thread, "redis", "postgresql"),
        (by_beats_task, "rabbitmq", "mariadb"),
        (by_call, "redis", "sqlite"),
    ],
)
def test_what_a_crash_left_behind_is_repaired(
    make_project: Callable[..., Project],
    repair: Callable[[Project, ExitStack], None],
    broker: str,
    database: str,
) -> None:
    """By the worker's own thread, by beat's task, by a call: each batch ends, each callback runs once."""
    project = make_project(broker, database)
    wrecked = wreck(project)
    with ExitStack() as running:
        repair(project, running)
        for batch in wrecked:
            assert batch.wait(30) == "complete"
            assert project.announced(batch) == ["complete", "settled"]
    assert project.seen("ran", "unpublished") == [[1]]


def test_a_block_ends_without_a_broker_and_the_sweep_publishes_it(
    make_project: Callable[..., Project], redis_url: str
) -> None:
    """The rows are committed and stay ready; that the broker is away is no error for who enrolls."""
    project = make_project("redis", "mariadb")
    project.app.conf.broker_url = "redis://127.0.0.1:1/0"
    batch, job_id = project.enroll("once", "away")
    row = project.row(job_id)
    assert (row.state, row.publishing_since is None) == ("ready", False)
    assert sweep(project.runtime, age=0).published == 0
    project.reconnect(redis_url)
    with project.worker("threads", 1):
        assert sweep(project.runtime, age=0).published == 1
        assert project.ended(batch, job_id).state == "complete"


@pytest.mark.parametrize("is_there", [False, True], ids=["missing", "older"])
def test_a_worker_without_the_right_tables_says_which_command_to_run(
    make_project: Callable[..., Project], tmp_path: Path, is_there: bool
) -> None:
    """It ends before it takes a message, with a line in its log that can be typed."""
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    if is_there:
        database = Database(url)
        schema.upgrade(database)
        with database.engine.begin() as connection:
            connection.execute(text(f"UPDATE {database.tables.version} SET version_num = '0000'"))
        database.close()
    worker = Worker(make_project("redis", "sqlite"), tmp_path, "solo", 1, (), {"database_url": url})
    assert worker.process.wait(60) not in (0, None)
    assert " ready." not in worker.log
    assert "flows upgrade" in worker.log
