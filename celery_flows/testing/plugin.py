"""Fixtures for pytest, which knows of them where a project says `pytest_plugins = ["celery_flows.testing"]`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from celery import Celery

from celery_flows.errors import ConfigurationError, NoFlows
from celery_flows.messaging.runtime import find_runtime
from celery_flows.store.clock import Clock
from celery_flows.store.database import Database
from celery_flows.testing.databases import new_file, prepare
from celery_flows.testing.services import has_frameworks_database, in_memory
from celery_flows.testing.worker import InProcessWorker

#: The option of pytest's configuration that names a database.
_OPTION = "flows_database_url"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addini(_OPTION, "URL of a database that is for tests of batches alone; by default a file of SQLite.")


@pytest.fixture(scope="session")
def flows_database_url(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a database for tests alone: that of the option of this name, or of a new file. Yours to override."""
    return str(pytestconfig.getini(_OPTION)) or new_file(tmp_path_factory.mktemp("celery-flows"))


@pytest.fixture(scope="session")
def flows_database(flows_database_url: str) -> str:
    """URL of that database, with its tables: for the configuration of apps that live as long as the session."""
    database = Database(flows_database_url)
    prepare(database)
    database.close()
    return flows_database_url


@pytest.fixture
def flows_app(request: pytest.FixtureRequest) -> Celery:
    """The app under test. Yours to override.

    `celery_app`, in a test that asks for it or for `celery_worker`; else the only app with Flows, or `celery_app`.
    """
    if not {"celery_app", "celery_worker"} & set(request.fixturenames):
        with suppress(NoFlows):
            return find_runtime().app
    try:
        app: Celery = request.getfixturevalue("celery_app")
    except pytest.FixtureLookupError:
        raise ConfigurationError(
            problem="No app was found to test: none with Flows is imported, or several are. Say which is meant: "
            "write a fixture flows_app in conftest.py that returns it."
        ) from None
    return app


@pytest.fixture
def flows_setup(flows_app: Celery, request: pytest.FixtureRequest) -> Iterator[Celery]:
    """The app, on a broker in memory and a database without batches; a Django project's in the project's own."""
    url = None if has_frameworks_database(flows_app) else request.getfixturevalue("flows_database")
    with in_memory(flows_app, database_url=url):
        yield flows_app


@pytest.fixture
def flows_worker(flows_setup: Celery) -> InProcessWorker:
    """A worker in the test's own thread, that runs when it is told to."""
    return InProcessWorker(flows_setup)


@pytest.fixture
def flows_clock(flows_worker: InProcessWorker) -> Clock:
    """A clock that stands still, in the place of the database's own."""
    return flows_worker.freeze()
