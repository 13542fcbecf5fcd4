"""A Django project in this process, with an alias in DATABASES for each database that is tested."""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import django
from apps import plain_app, runtime_of, shop_tasks
from celery import Celery, _state
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.test.utils import override_settings
from kombu.transport.memory import Channel
from services import own_database
from sqlalchemy.engine import make_url

from celery_flows import Flows
from celery_flows.messaging import hosting
from celery_flows.store.emptying import empty

_APPS: Final = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "celery_flows.contrib.django",
    "orders",
]

_MIDDLEWARE: Final = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

_TEMPLATES: Final = {
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {
        "context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]
    },
}

_SERVICES: Final = {"postgresql": "postgres", "mariadb": "mysql"}


def set_up() -> None:
    """Configure Django, once in a process; its default database is an SQLite file."""
    if settings.configured:
        return
    if find_spec("MySQLdb") is None:
        import pymysql

        # For mysqlclient, where that is not installed; Django asks for its number.
        pymysql.version_info = (2, 2, 7, "final", 0)
        pymysql.install_as_MySQLdb()
    settings.configure(
        DATABASES={"default": file_database(Path(tempfile.mkdtemp()) / "default.sqlite3")},
        INSTALLED_APPS=_APPS,
        MIDDLEWARE=_MIDDLEWARE,
        TEMPLATES=[_TEMPLATES],
        ROOT_URLCONF="orders.urls",
        SECRET_KEY="tests",
        STATIC_URL="/static/",
        USE_TZ=True,
    )
    django.setup()
    # Other tests are about apps that no framework gives a database to.
    hosting.hosts.clear()


def file_database(path: Path) -> dict[str, Any]:
    """An SQLite file, as DATABASES has it."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


def server_database(url: str) -> dict[str, Any]:
    """A server's database, as DATABASES has it."""
    made = make_url(url)
    is_postgresql = made.get_backend_name() == "postgresql"
    return {
        "ENGINE": f"django.db.backends.{'postgresql' if is_postgresql else 'mysql'}",
        "NAME": made.database,
        "USER": made.username or "",
        "PASSWORD": made.password or "",
        "HOST": made.host or "",
        "PORT": str(made.port or ""),
    }


@contextmanager
def own_settings(kind: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Make an empty database of a kind, and say where it is as DATABASES would."""
    if kind == "sqlite":
        # As the documentation has it: a transaction that has read can go on to write.
        yield {**file_database(folder / "django.sqlite3"), "OPTIONS": {"transaction_mode": "IMMEDIATE"}}
        return
    with own_database(_SERVICES[kind]) as url:
        yield server_database(url)


@contextmanager
def alias_of(name: str, database: dict[str, Any]) -> Iterator[str]:
    """Add a database to DATABASES, until the end of the block."""
    every = connections.settings
    every[name] = connections.configure_settings({"default": {}, name: database})[name]
    try:
        yield name
    finally:
        connections[name].close()
        pool = getattr(connections[name], "close_pool", None)
        if pool is not None:
            pool()
        del connections[name]
        del every[name]


@contextmanager
def meant(alias: str) -> Iterator[None]:
    """Let the batches be in one of the databases, as a project's settings say it."""
    from celery_flows.contrib.django.apps import place

    hosting.hosts.append(place)
    try:
        with override_settings(CELERY_FLOWS_DJANGO_DATABASE=alias):
            yield
    finally:
        hosting.hosts.remove(place)


def migrated(alias: str) -> None:
    """Make all tables in a database."""
    with meant(alias):
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)


def emptied(alias: str) -> None:
    """Take the rows that a test has left out of a database; flush would take the tables' time."""
    from orders.models import Order

    connections[alias].close()
    from celery_flows.contrib.django.database import DjangoDatabase

    database = DjangoDatabase(alias, lambda: False, {})
    database.transact(empty, database.tables)
    Order.objects.using(alias).all().delete()


def run_cases(base: type, alias: str, **tests: Any) -> None:
    """Run tests as a project's own test runner does, in order."""
    case = type("Tests", (base,), {**tests, "databases": {alias}, "__module__": __name__})
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    for _, problem in [*result.errors, *result.failures]:
        raise AssertionError(problem)
    assert result.testsRun == len(tests)


@contextmanager
def django_app(alias: str, **options: Any) -> Iterator[Celery]:
    """A Celery app in the project, with the tasks of `shop_tasks`."""
    app = plain_app(task_cls="celery.contrib.django.task:DjangoTask")
    Flows(app, django_database=alias, **options)
    shop_tasks(app)
    before = _state._tls.current_app
    app.set_current()
    try:
        yield app
    finally:
        _state._set_current_app(before)
        runtime_of(app).database.close()
        app.close()
        Channel.queues.clear()
