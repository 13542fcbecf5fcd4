"""Services for tests: every run makes databases, virtual hosts and key spaces of its own, and drops them."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, Final, NoReturn

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

DEFAULTS: Final = {
    "postgres": "postgresql+psycopg://postgres@127.0.0.1:5432/test",
    "mysql": "mysql+pymysql://root@127.0.0.1:3306/test",
    "redis": "redis://127.0.0.1:6379/0",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}

#: Marks a Redis database as taken by a test run, since a moment.
_LEASE: Final = "flows_test:taken_at"

#: Seconds after which a run is held to have died without cleaning up: the next one does so.
_LEASE_SECONDS: Final = 2 * 3600

#: What names of databases and virtual hosts begin with; the moment of their making follows.
_PREFIX: Final = "flows_test_"

_LIST_DATABASES: Final = {
    "postgres": "SELECT datname FROM pg_database",
    "mysql": "SELECT schema_name FROM information_schema.schemata",
}


def url_of(service: str) -> str:
    """Where a service is: FLOWS_TEST_<SERVICE>_URL, or this machine at the standard port."""
    return os.environ.get(f"FLOWS_TEST_{service.upper()}_URL") or DEFAULTS[service]


def not_there(service: str, problem: object) -> NoReturn:
    """Leave a service untested on a laptop; where CI is set, that is a failure."""
    reason = f"{service} does not answer, so it is not tested: {str(problem).splitlines()[0]}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def own_database(service: str) -> Iterator[str]:
    """Make a database on a server, and drop it at the end."""
    name = _new_name()
    url = make_url(url_of(service))
    try:
        for (left,) in _say_to_server(service, _LIST_DATABASES[service]):
            if _is_left(left):
                _say_to_server(service, f"DROP DATABASE IF EXISTS {left}")
        _say_to_server(service, f"CREATE DATABASE {name}")
    except (SQLAlchemyError, ImportError) as error:
        not_there(service, error)
    if service == "postgres":
        # Waiting for the disk proves nothing here.
        _say_to_server(service, f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        _say_to_server(service, f"DROP DATABASE {name}" + (" WITH (FORCE)" if service == "postgres" else ""))


def _say_to_server(service: str, statement: str) -> Sequence[Any]:
    engine = create_engine(url_of(service), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        result = connection.exec_driver_sql(statement)
        return result.all() if result.returns_rows else []


def _new_name() -> str:
    return f"{_PREFIX}{int(time.time())}_{secrets.token_hex(4)}"


def _is_left(name: str) -> bool:
    made_at = name.removeprefix(_PREFIX).partition("_")[0]
    return name.startswith(_PREFIX) and made_at.isdigit() and time.time() - int(made_at) > _LEASE_SECONDS


@contextmanager
def own_redis() -> Iterator[str]:
    """Take one of the server's empty numbered databases, and empty it at the end."""
    try:
        url = _take_redis()
    except (ImportError, OSError) as error:
        not_there("redis", error)
    if url is None:
        not_there("redis", "all of its numbered databases are in use.")
    try:
        yield url
    finally:
        with _redis(url) as client:
            client.flushdb()


def flush_redis(url: str) -> None:
    """Empty a database that was taken, but for the mark that says so."""
    with _redis(url) as client, client.pipeline() as both:
        both.flushdb()
        both.set(_LEASE, time.time())
        both.execute()


def _take_redis() -> str | None:
    for number in range(1, 16):
        url = make_url(url_of("redis")).set(database=str(number)).render_as_string(hide_password=False)
        with _redis(url) as client:
            taken_at = client.get(_LEASE)
            if taken_at is not None and time.time() - float(taken_at) > _LEASE_SECONDS:
                client.flushdb()
            if client.dbsize() == 0 and client.set(_LEASE, time.time(), nx=True):
                return url
    return None


@contextmanager
def _redis(url: str) -> Iterator[Any]:
    import redis

    try:
        with closing(redis.Redis.from_url(url)) as client:
            yield client
    except redis.ConnectionError as error:
        raise OSError(str(error)) from error


@contextmanager
def own_vhost() -> Iterator[str]:
    """Make a virtual host in RabbitMQ, and drop it at the end; without rabbitmqctl, use the URL as it is."""
    _check_rabbitmq()
    name = _new_name()
    if _rabbitmqctl("add_vhost", name) is None:
        yield url_of("rabbitmq")
        return
    for left in filter(_is_left, _rabbitmqctl("list_vhosts") or []):
        _rabbitmqctl("delete_vhost", left)
    url = make_url(url_of("rabbitmq"))
    try:
        _rabbitmqctl("set_permissions", "-p", name, url.username or "guest", ".*", ".*", ".*")
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        _rabbitmqctl("delete_vhost", name)


def _check_rabbitmq() -> None:
    import kombu

    with kombu.Connection(url_of("rabbitmq"), connect_timeout=5) as connection:
        try:
            connection.connect()
        except OSError as error:
            not_there("rabbitmq", error)


def _rabbitmqctl(*words: str) -> list[str] | None:
    with suppress(FileNotFoundError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [shutil.which("rabbitmqctl") or "/usr/sbin/rabbitmqctl", "--quiet", *words],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.splitlines() if done.returncode == 0 else None
    return None
