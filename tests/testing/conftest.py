"""An app as a user has it, on a broker in memory and a file of SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from apps import shop_tasks
from celery import Celery

from celery_flows import Flows
from celery_flows.testing import InProcessWorker, in_memory


@pytest.fixture
def app() -> Celery:
    """An app whose broker and database are not there, with the tasks of `shop_tasks`."""
    app = Celery("shop", broker="redis://nowhere/0", backend="redis://nowhere/0", set_as_current=False)
    app.conf.broker_connection_retry = False
    Flows(app, database_url="postgresql+psycopg://nowhere/shop")
    shop_tasks(app)
    return app


@pytest.fixture
def worker(app: Celery) -> Iterator[InProcessWorker]:
    """A worker for it, in the test's own thread."""
    with in_memory(app) as worker:
        yield worker
