"""Where one of Django's databases is, for connections of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from django.db import connections
from sqlalchemy.engine import URL

from celery_flows.errors import ConfigurationError

#: What stands in OPTIONS for Django rather than for the driver.
_DJANGOS: Final = {
    "postgresql": ("pool", "isolation_level", "server_side_binding", "assume_role", "cursor_factory", "context"),
    "mysql": ("isolation_level",),
    "sqlite": ("transaction_mode", "init_command", "check_same_thread", "detect_types"),
}


def wrapper_of(alias: str) -> Any:
    """Django's object for this thread's connection.

    Raises:
        ConfigurationError: there is no such alias, or it is of a database that we can't work with.
    """
    if alias not in connections:
        raise ConfigurationError(
            problem=f"flows_django_database is {alias!r}, but DATABASES has only: {', '.join(connections)}."
        )
    wrapper = connections[alias]
    if wrapper.vendor not in _DJANGOS:
        raise ConfigurationError(
            problem=f"celery-flows works on PostgreSQL, MySQL, MariaDB and SQLite, not on {wrapper.vendor!r}, "
            f"which DATABASES has as {alias!r}. Name another with flows_django_database."
        )
    return wrapper


def url_of(wrapper: Any) -> URL:
    """The URL of one of Django's databases, by the driver that Django uses.

    Raises:
        ConfigurationError: Django uses a driver that we can't.
    """
    if wrapper.vendor == "sqlite":
        return _file_url(str(wrapper.settings_dict["NAME"]))
    given = wrapper.settings_dict
    is_socket = wrapper.vendor == "mysql" and given["HOST"].startswith("/")
    return URL.create(
        _driver(wrapper),
        username=given["USER"] or None,
        password=given["PASSWORD"] or None,
        host=None if is_socket else given["HOST"] or None,
        port=int(given["PORT"]) if given["PORT"] else None,
        database=given["NAME"] or None,
        query={"unix_socket": given["HOST"]} if is_socket else {},
    )


def _driver(wrapper: Any) -> str:
    if wrapper.vendor == "mysql":
        # PyMySQL may stand in for mysqlclient, under its name.
        return "mysql+pymysql" if wrapper.Database.__name__ == "pymysql" else "mysql+mysqldb"
    if wrapper.Database.__name__ != "psycopg":
        raise ConfigurationError(problem="celery-flows needs psycopg 3, and Django found psycopg2 only.")
    return "postgresql+psycopg"


def _file_url(name: str) -> URL:
    # Tests' database in memory is shared by name between the connections of a process.
    path, _, query = name.partition("?")
    if not path.startswith("file:"):
        return URL.create("sqlite", database=name)
    return URL.create("sqlite", database=path, query={**dict(parse_qsl(query)), "uri": "true"})


def engine_options(wrapper: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The setting engine_options, with what Django gives the driver beside what stands in the URL."""
    options = wrapper.settings_dict["OPTIONS"]
    djangos = {name: value for name, value in options.items() if name not in _DJANGOS[wrapper.vendor]}
    return {**given, "connect_args": {**djangos, **given.get("connect_args", {})}}
