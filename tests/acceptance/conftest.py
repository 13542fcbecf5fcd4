"""Fixtures for tests with real workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from acceptance.running import Project

BROKERS = {"redis": "redis_url", "rabbitmq": "rabbitmq_url"}
DATABASES = {"sqlite": "sqlite_url", "postgresql": "postgres_url", "mariadb": "mysql_url"}


@pytest.fixture(scope="module")
def make_project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Project]]:
    """Makes projects on a broker and a database, by their names."""
    with ExitStack() as stack:

        def make(broker: str, database: str, **celery: Any) -> Project:
            broker_url = request.getfixturevalue(BROKERS[broker])
            database_url = request.getfixturevalue(DATABASES[database])
            project = Project(tmp_path_factory.mktemp("project"), broker_url, database_url, **celery)
            return stack.enter_context(closing(project))

        yield make
