"""Which databases and drivers there are, and reading the URL of one."""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from celery_flows.errors import ConfigurationError, DriverMissing

#: The driver that is meant where a URL names a database only.
_DRIVERS: Final = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}

#: What to install for a database.
_EXTRAS: Final = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}

_BACKENDS: Final = (*_EXTRAS, "sqlite")


def read_url(url: str | URL) -> URL:
    """Read a database's URL, and name the driver where it names none.

    Raises:
        ConfigurationError: it is not a URL, or not that of a database that we can work with.
    """
    try:
        read = make_url(url)
        read = read.set(drivername=_DRIVERS.get(read.drivername, read.drivername))
        is_async = read.get_backend_name() in _BACKENDS and read.get_dialect().is_async
    except (ArgumentError, NoSuchModuleError, ValueError):
        # Not its own message, which may repeat the URL with its password.
        raise ConfigurationError(
            problem="The database URL can't be read. Write it like postgresql+psycopg://user:password@host/name, "
            "with characters such as @ and / in a password written as %40 and %2F."
        ) from None
    problem = _problem(read, is_async=is_async)
    if problem is not None:
        raise ConfigurationError(problem=problem)
    return read


def _problem(url: URL, *, is_async: bool) -> str | None:
    backend = url.get_backend_name()
    if backend not in _BACKENDS:
        return f"celery-flows works on PostgreSQL, MySQL, MariaDB and SQLite, not on {backend!r}."
    if url.drivername == "postgresql+psycopg2":
        return "celery-flows needs psycopg 3: write the database URL as postgresql+psycopg://..."
    if is_async:
        return f"celery-flows needs a driver without asyncio: write {backend}://... for {url.drivername}://..."
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        return (
            "An in-memory SQLite database is lost between connections and processes. "
            "Name a file: sqlite:///flows.sqlite3"
        )
    return None


def driver_missing(url: URL, error: ImportError) -> DriverMissing:
    """The error for a driver that is not installed, or lacks its own library, saying what to install."""
    backend, problem = url.get_backend_name(), str(error).splitlines()[0].rstrip(".")
    return DriverMissing(problem=problem, extra=_EXTRAS.get(backend, backend), backend=backend)


def masked(url: str | URL) -> str:
    """A URL as it may be shown: without the password, and without the query, which may hold one."""
    return read_url(url).set(query={}).render_as_string(hide_password=True)


def dialect_of(url: str | URL) -> str:
    """Which database a URL is of: "postgresql", "mysql", "mariadb" or "sqlite"."""
    return read_url(url).get_backend_name()
