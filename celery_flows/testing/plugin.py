"""Fixtures for pytest, which knows of them where a project says `pytest_plugins = ["celery_flows.testing"]`.

PYTEST_DONT_REWRITE: there are no bare assertions here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from celery import Celery

from celery_flows.errors import ConfigurationError, NoFlows
from celery_flows.messaging.runtime import find_runtime, living
from celery_flows.store.clock import Clock
from celery_flows.store.database import Database
from celery_flows.testing.databases import new_file, prepare
from celery_flows.testing.services import in_memory
from celery_flows.testing.worker import InProcessWorker

#: The option of pytest's configuration that names a database.
_OPTION = "flows_database_url"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addini(_OPTION, "URL of a database that is for tests of batches alone; by default a file of SQLite.")


@pytest.fixture(scope="session")
def flows_database_url(pytestconfig: pytest.Config) -> str | None:
    """URL of a database that is for these tests alone, as the option of this name says. Yours to override.

    None: each test has a new file of SQLite; in a Django project the project's own database.
    """
    return str(pytestconfig.getini(_OPTION)) or None


@pytest.fixture(scope="session")
def flows_database(flows_database_url: str | None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a database with our tables, for the configuration of apps that live as long as the session."""
    url = flows_database_url or new_file(tmp_path_factory.mktemp("celery-flows"))
    database = Database(url)
    prepare(database)
    database.close()
    return url


@pytest.fixture
def flows_app(request: pytest.FixtureRequest) -> Celery:
    """The app under test. Yours to override.

    `celery_app`, in a test that asks for it or for `celery_worker`; else the current app, if it has Flows, or the
    only one that has; else, where none has, `celery_app`.
    """
    if not {"celery_app", "celery_worker"} & set(request.fixturenames):
        with suppress(NoFlows):
            return find_runtime().app
        if living():
            raise ConfigurationError(problem=f"Several apps have Flows. {_OVERRIDE}")
    try:
        app: Celery = request.getfixturevalue("celery_app")
    except pytest.FixtureLookupError:
        raise ConfigurationError(problem=f"No app with Flows is imported. {_OVERRIDE}") from None
    return app


_OVERRIDE = "Say which is to be tested: write a fixture flows_app in conftest.py that returns it."


@pytest.fixture
def flows_setup(flows_app: Celery, flows_database_url: str | None) -> Iterator[Celery]:
    """The app, on a broker in memory and a database without batches."""
    with in_memory(flows_app, database_url=flows_database_url):
        yield flows_app


@pytest.fixture
def flows_worker(flows_setup: Celery) -> InProcessWorker:
    """A worker in the test's own thread, that runs when it is told to."""
    return InProcessWorker(flows_setup)


@pytest.fixture
def flows_clock(flows_worker: InProcessWorker) -> Clock:
    """A clock that stands still, in the place of the database's own."""
    return flows_worker.freeze()
