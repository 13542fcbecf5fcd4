"""What the benchmarks run on: a database and a broker of their own, dropped at the end."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from kombu import Connection
from sqlalchemy import NullPool, create_engine, make_url

from celery_flows.store import schema
from celery_flows.store.database import Database

#: As in the tests: FLOWS_TEST_<SERVICE>_URL, or this machine at the standard port.
_DEFAULTS = {
    "postgres": "postgresql+psycopg://postgres@127.0.0.1:5432/test",
    "mysql": "mysql+pymysql://root@127.0.0.1:3306/test",
    "redis": "redis://127.0.0.1:6379/0",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}


@dataclass(frozen=True)
class World:
    """Where a benchmark runs."""

    #: A folder for markers and logs.
    scratch: Path
    #: The module benchmarks.apps, imported once the services are known.
    apps: Any


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
        apps = import_module("benchmarks.apps")
        tables = Database(url)
        schema.upgrade(tables)
        tables.close()
        try:
            yield World(Path(folder), apps)
        finally:
            _drop_queues(apps)


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
            channel.queue_delete(app.conf.task_default_queue)


def purge(app: Any) -> None:
    """Empty the queue of an app."""
    with app.connection_for_write() as connection:
        app.amqp.TaskConsumer(connection).purge()
