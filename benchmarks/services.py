"""What the benchmarks run on: a database and queues of their own, dropped at the end."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from kombu import Connection
from sqlalchemy import NullPool, create_engine, make_url

from celery_flows.messaging.runtime import Runtime, runtime_of
from celery_flows.store import schema
from celery_flows.store.database import Database

#: As in the tests: FLOWS_TEST_<SERVICE>_URL, or this machine at the standard port.
_DEFAULTS: Final = {
    "postgres": "postgresql+psycopg://postgres@127.0.0.1:5432/test",
    "mysql": "mysql+pymysql://root@127.0.0.1:3306/test",
    "redis": "redis://127.0.0.1:6379/0",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}

#: Where nothing of a run before may be left. Not the workers' leases: they still hold.
_CLEARED: Final = ("jobs", "batches", "edges", "memory", "tallies")


@dataclass(frozen=True)
class World:
    """Where a benchmark runs."""

    #: A folder for markers and logs.
    scratch: Path
    #: "redis" or "rabbitmq".
    broker: str
    #: The module benchmarks.apps, imported once the services are known.
    apps: Any
    #: What ends with it.
    exits: ExitStack

    @property
    def ours(self) -> Any:
        """The app with Flows."""
        return self.apps.ours

    @property
    def plain(self) -> Any:
        """The app without."""
        return self.apps.plain

    def task(self, app: Any, name: str) -> Any:
        """A task of one of them."""
        return self.apps.task(app, name)

    @property
    def runtime(self) -> Runtime:
        """What celery-flows keeps for its app."""
        return runtime_of(self.ours)

    @property
    def database(self) -> Database:
        """The door to the database."""
        return self.runtime.database

    @property
    def notes(self) -> Path:
        """The file that tasks write to."""
        return self.scratch / "notes"

    def clear(self) -> None:
        """Forget all batches and jobs, and what tasks have noted."""
        self.notes.write_text("")
        delete = "DELETE FROM" if self.database.dialect == "sqlite" else "TRUNCATE TABLE"
        with self.database.reading() as connection:
            quote = connection.dialect.identifier_preparer
            for noun in _CLEARED:
                table = getattr(self.database.tables, noun)
                connection.exec_driver_sql(f"{delete} {quote.format_table(table)}")


@contextmanager
def services(broker: str, database: str, scratch: Path | None) -> Iterator[World]:
    """Make a database with our tables, and name the queues' broker."""
    with (
        tempfile.TemporaryDirectory(prefix="flows-bench-", dir=scratch) as folder,
        _database(database, folder) as url,
    ):
        os.environ["BENCH_BROKER_URL"] = _url(broker)
        os.environ["BENCH_RESULT_URL"] = _url("redis")
        os.environ["BENCH_DATABASE_URL"] = url
        os.environ["BENCH_NOTES"] = str(Path(folder, "notes"))
        os.environ["BENCH_RUN"] = secrets.token_hex(4)
        _upgrade(url)
        apps = import_module("benchmarks.apps")
        with ExitStack() as exits:
            world = World(Path(folder), broker, apps, exits)
            exits.callback(world.database.close)
            exits.callback(_drop_queues, apps)
            yield world


def _upgrade(url: str) -> None:
    tables = Database(url)
    schema.upgrade(tables)
    tables.close()


def _url(service: str) -> str:
    return os.environ.get(f"FLOWS_TEST_{service.upper()}_URL") or _DEFAULTS[service]


@contextmanager
def _database(service: str, folder: str) -> Iterator[str]:
    if service == "sqlite":
        yield f"sqlite:///{folder}/bench.sqlite3"
        return
    name = f"flows_bench_{secrets.token_hex(6)}"
    server = create_engine(_url(service), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield make_url(_url(service)).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            force = " WITH (FORCE)" if service == "postgres" else ""
            connection.exec_driver_sql(f"DROP DATABASE {name}{force}")


def _drop_queues(apps: Any) -> None:
    for app in (apps.plain, apps.ours):
        with Connection(app.conf.broker_url) as connection, connection.channel() as channel:
            queue = app.amqp.queues[app.conf.task_default_queue].bind(channel)
            # A new channel forgets only bindings that it knows.
            queue.declare()
            queue.delete()
            queue.exchange.delete()


def purge(app: Any) -> None:
    """Empty the queue of an app."""
    with app.connection_for_write() as connection:
        app.amqp.TaskConsumer(connection).purge()
