"""What the demo runs on: a database, a broker, workers, and a folder for what it leaves."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery

from celery_flows.cli.demo.tasks import MEASURES, make_app
from celery_flows.cli.demo.workers import Workers, in_processes, in_this_process
from celery_flows.cli.failures import Failure, Unreachable
from celery_flows.messaging.runtime import runtime_of
from celery_flows.settings import DATABASE_URL_VARIABLE
from celery_flows.store import schema
from celery_flows.store.urls import masked

_MEMORY = "memory://"


@dataclass(frozen=True)
class Stage:
    """A database, a broker and workers, ready to be used."""

    app: Celery
    #: The folder of this run, whose name is the run's.
    run: Path
    database_url: str
    broker_url: str
    number: int
    workers: Workers

    @property
    def shown_database(self) -> str:
        """The database, for people."""
        return masked(self.database_url)

    @property
    def shown_broker(self) -> str:
        """The broker, for people."""
        return _MEMORY if self.broker_url == _MEMORY else str(self.app.connection_for_write().as_uri())

    @property
    def shown_workers(self) -> str:
        """The workers, for people."""
        where = "threads of this process" if self.broker_url == _MEMORY else "processes of a worker"
        return f"{self.number} {where}"


@contextmanager
def set_up(
    database_url: str | None, broker_url: str | None, workers: int, flows: Mapping[str, Any]
) -> Iterator[Stage]:
    """Make what was not given, see that the rest is there, and start the workers.

    Args:
        flows: settings for the app, but for the database.

    Raises:
        Failure: the broker's URL can't be used.
        Unreachable: the broker does not answer.
    """
    run = Path(tempfile.mkdtemp(prefix="celery-flows-demo-"))
    (run / MEASURES).mkdir()
    # The run's own database need not outlive a power cut, and so need not wait for the disk.
    options = {"engine_options": {"connect_args": {"factory": _Hasty}}} if database_url is None else {}
    database_url = database_url or f"sqlite:///{run / 'flows.sqlite3'}"
    broker_url = broker_url or _MEMORY
    _put_into_environment(database_url, broker_url)
    app = make_app(run.name, **flows, **options)
    _see_broker(app)
    _make_tables(app)
    in_memory = broker_url == _MEMORY
    start = in_this_process(app, run, workers) if in_memory else in_processes(app, run, workers, flows)
    with closing(app), start as started:
        yield Stage(app, run, database_url, broker_url, workers, started)


class _Hasty(sqlite3.Connection):
    """A connection that writes when it suits the disk."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous = OFF")


def _put_into_environment(database_url: str, broker_url: str) -> None:
    # Celery and celery-flows read these first, here and in worker processes; argument lists are seen by all.
    for name in ("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        os.environ.pop(name, None)
    os.environ |= {DATABASE_URL_VARIABLE: database_url, "CELERY_BROKER_URL": broker_url}


def _see_broker(app: Celery) -> None:
    shown = ""
    try:
        with app.connection_for_write() as connection:
            shown = connection.as_uri()
            connection.ensure_connection(max_retries=1, interval_start=0)
    except (ImportError, LookupError) as error:
        raise Failure(f"The broker's URL can't be used: {error}") from error
    except Exception as error:
        raise Unreachable(f"The broker {shown} can't be reached: {error}") from error


def _make_tables(app: Celery) -> None:
    database = runtime_of(app).new_database(check=False)
    try:
        if schema.current(database) is None:
            schema.upgrade(database)
        schema.check(database)
    finally:
        database.close()
