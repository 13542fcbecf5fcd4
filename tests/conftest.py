"""Fixtures for all tests: databases and brokers."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

# Helpers beside this file are imported by name; pytest's importlib mode leaves the path alone.
sys.path.insert(0, str(Path(__file__).parent))

from services import own_database, own_redis, own_vhost

from celery_flows.memory import RedisMemory
from celery_flows.store import schema
from celery_flows.store.database import Database
from celery_flows.store.emptying import empty

pytest_plugins = ["pytester"]

#: The databases that are equals, by the name in a test's id, and the fixture that gives the URL of one.
DATABASES = {"sqlite": "sqlite_url", "postgresql": "postgres_url", "mariadb": "mysql_url"}


def _upgraded(url: str) -> str:
    database = Database(url)
    schema.upgrade(database)
    database.close()
    return url


@pytest.fixture(autouse=True)
def loggers_level() -> Iterator[None]:
    """A worker in this process sets what is logged; after its test that is as it was."""
    before = logging.root.level
    yield
    logging.root.setLevel(before)


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite database of this run, with our tables."""
    return _upgraded(f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'flows.sqlite3'}")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL database of this run, with our tables."""
    with own_database("postgres") as url:
        yield _upgraded(url)


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """A MariaDB or MySQL database of this run, with our tables."""
    with own_database("mysql") as url:
        yield _upgraded(url)


@pytest.fixture(scope="session", params=DATABASES)
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each of the three databases in turn, by name."""
    return str(request.param)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_kind: str) -> Iterator[str]:
    """An upgraded database on each of the three, without rows; what a test leaves is deleted after it."""
    url: str = request.getfixturevalue(DATABASES[database_kind])
    yield url
    _empty(url)


@pytest.fixture
def file_url(sqlite_url: str) -> Iterator[str]:
    """An upgraded SQLite database without rows, for tests that need one database only."""
    yield sqlite_url
    _empty(sqlite_url)


@pytest.fixture
def server_url(postgres_url: str) -> Iterator[str]:
    """An upgraded PostgreSQL database without rows, for tests that need one server only."""
    yield postgres_url
    _empty(postgres_url)


def _empty(url: str) -> None:
    database = Database(url)
    database.transact(empty, database.tables)
    database.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The door to an upgraded database without rows, on each of the three."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def new_database_url(database_kind: str, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes databases without any table on each of the three: call it for the URL of another one."""
    service = {"postgresql": "postgres", "mariadb": "mysql"}.get(database_kind)
    numbers = count()
    with ExitStack() as stack:

        def make() -> str:
            if service is not None:
                return stack.enter_context(own_database(service))
            return f"sqlite:///{tmp_path / f'{next(numbers)}.sqlite3'}"

        yield make


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis database that this run has for itself."""
    with own_redis() as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """A RabbitMQ virtual host of this run."""
    with own_vhost() as url:
        yield url


@pytest.fixture
def redis_memory(redis_url: str) -> Iterator[RedisMemory]:
    """A memory in Redis, under names of its own."""
    from redis import Redis

    prefix = f"test-{uuid.uuid4().hex}:"
    yield RedisMemory(redis_url, prefix=prefix)
    with Redis.from_url(redis_url) as client:
        for name in client.scan_iter(f"{prefix}*"):
            client.delete(name)
