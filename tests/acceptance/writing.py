"""Jobs and callbacks that write to the database in their own transaction, a row for each effect."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from acceptance.making import seen, task, wait_for_file
from celery import chain
from celery.exceptions import Ignore
from sqlalchemy import Connection, create_engine, text

from celery_flows import current_job

#: The users' own table.
TABLE: Final = "test_effects"

#: How a session ends itself from outside, on each server.
_END_SESSION: Final = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
    "mysql": ("SELECT connection_id()", "KILL {}"),
}


def make_table(url: str) -> None:
    """Make the users' table anew."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))
        connection.execute(text(f"CREATE TABLE {TABLE} (name VARCHAR(200) NOT NULL)"))
    engine.dispose()


def effects(url: str, beginning: str = "") -> list[str]:
    """What was written and committed, each as often as it was."""
    engine = create_engine(url)
    with engine.connect() as connection:
        names = list(connection.scalars(text(f"SELECT name FROM {TABLE} ORDER BY name")))
    engine.dispose()
    return [name for name in names if name.startswith(beginning)]


def insert(connection: Connection, name: str) -> None:
    """Write a row."""
    connection.execute(text(f"INSERT INTO {TABLE} (name) VALUES (:name)"), {"name": name})


@task(bind=True, max_retries=3)
def write(self: Any, name: str, how: str = "well", gate: str = "") -> None:
    """Write a row, remember it, and end in one of several ways; most happen in the first attempt only."""
    self.job.memory.write({name: self.job.attempt, "written": 1})
    with suppress(LookupError), self.job.transaction() as connection:
        insert(connection, name)
        if how == "left":
            raise LookupError("out of the block, though not out of the task")
    seen("wrote", name, self.job.attempt)
    if how == "ignored":
        raise Ignore
    if self.job.attempt == 1:
        _end_first(self, connection, how, gate)


def _end_first(task: Any, connection: Connection, how: str, gate: str) -> None:
    if how == "error":
        raise ValueError("after it wrote")
    if how == "retry":
        raise task.retry(countdown=0)
    if how == "replaced":
        parts = [task.app.signature("jobs.add", (1, 1), immutable=True) for _ in range(2)]
        task.replace(chain(*parts))
    if how == "held":
        wait_for_file(gate)
    if how == "cut":
        end_session(connection)


def end_session(connection: Connection) -> None:
    """Let the server end this session, as an operator does."""
    ask, end = _END_SESSION[connection.dialect.name]
    number = connection.scalar(text(ask))
    other = create_engine(connection.engine.url)
    with other.connect() as operator:
        operator.execute(text(end.format(number)))
    other.dispose()


@task(bind=True)
def slow_write(self: Any, name: str) -> None:
    """Keep a connection for a while."""
    with self.job.transaction() as connection:
        insert(connection, name)
        connection.execute(text("SELECT pg_sleep(0.1)"))


@task(bind=True)
def nested(self: Any, name: str) -> None:
    """Open the transaction twice."""
    with self.job.transaction() as outer, self.job.transaction() as inner:
        insert(inner, name)
        seen("same", name, outer is inner)


@task(bind=True, on_loss="retry")
def record(self: Any, batch_id: str, event: str, dies: str = "") -> None:
    """A callback that writes one row; its process may die on the way, the first time."""
    job = current_job()
    assert job is not None
    point = dies if job.attempt == 1 else ""
    _die("before", point)
    with job.transaction() as connection:
        insert(connection, f"{batch_id} {event} {dies}".strip())
        _die("within", point)
    seen("recorded", batch_id, event, dies, job.attempt)
    _die("after", point)


def _die(here: str, point: str) -> None:
    if here == point:
        os._exit(9)


@task()
def homeless(path: str) -> None:
    """Say what a task is told that is nobody's job."""
    Path(path).write_text(repr(current_job()))
