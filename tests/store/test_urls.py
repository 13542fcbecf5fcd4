"""Database URLs: what is understood, and what is refused in which words."""

from __future__ import annotations

from contextlib import closing

import pytest

from celery_flows.errors import ConfigurationError, DriverMissing
from celery_flows.store.database import Database
from celery_flows.store.urls import read_url


@pytest.mark.parametrize(
    ("written", "driver", "dialect"),
    [
        ("postgres://host/shop", "postgresql+psycopg", "postgresql"),
        ("postgresql://host/shop", "postgresql+psycopg", "postgresql"),
        ("mysql://host/shop", "mysql+pymysql", "mysql"),
        ("mariadb://host/shop", "mariadb+pymysql", "mysql"),
        ("mysql+mysqldb://host/shop", "mysql+mysqldb", "mysql"),
        ("sqlite:///shop.sqlite3", "sqlite", "sqlite"),
    ],
)
def test_driver_is_named_where_the_url_names_none(written: str, driver: str, dialect: str) -> None:
    """A URL that names a database only means the driver that celery-flows is tested with."""
    database = Database(written)
    assert (database.url.drivername, database.dialect) == (driver, dialect)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "can't be read"),
        ("my secret", "can't be read"),
        ("mysql://me:secret@host:port/shop", "can't be read"),
        ("mysql+unheard://me:secret@host/shop", "can't be read"),
        ("oracle://me:secret@host/shop", "not on 'oracle'"),
        ("postgresql+psycopg2://me:secret@host/shop", "psycopg 3"),
        ("postgresql+asyncpg://me:secret@host/shop", "without asyncio"),
        ("sqlite://", "Name a file"),
        ("sqlite:///:memory:", "Name a file"),
    ],
)
def test_what_can_not_work_is_refused(written: str, words: str) -> None:
    """A URL that can't work is refused with what to write instead, and without what it holds."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_url(written)
    assert "secret" not in str(caught.value)


def test_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is not installed is named, together with the extra that brings it."""
    monkeypatch.setitem(__import__("sys").modules, "pymysql", None)
    with (
        closing(Database("mysql://host/shop")) as database,
        pytest.raises(DriverMissing, match=r"pymysql.*celery-flows\[mysql\]"),
    ):
        database.engine.connect()
