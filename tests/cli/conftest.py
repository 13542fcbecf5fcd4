"""What tests of commands begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from apps import flows_app
from celery import Celery, _state

from celery_flows.store.database import Database


@pytest.fixture
def database(file_url: str) -> Iterator[Database]:
    """An SQLite database: what a command says does not depend on which it is."""
    database = Database(file_url)
    yield database
    database.close()


@pytest.fixture
def app(file_url: str) -> Iterator[Celery]:
    """An app on that database."""
    with flows_app(file_url) as app:
        yield app


@pytest.fixture(autouse=True)
def current_app() -> Iterator[None]:
    """What a command in this process makes the current app, or that of all threads, is forgotten."""
    before, of_all = _state._tls.current_app, _state.default_app
    yield
    _state._tls.current_app, _state.default_app = before, of_all
