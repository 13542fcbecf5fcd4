"""A Django project on each of the three databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from djangos import alias_of, django_app, emptied, meant, migrated, own_settings, set_up

set_up()


@pytest.fixture(scope="session")
def migrated_alias(database_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database on each of the three, whose tables Django's migrate has made."""
    folder = tmp_path_factory.mktemp("django")
    with own_settings(database_kind, folder) as database, alias_of(database_kind, database) as alias:
        migrated(alias)
        yield alias


@pytest.fixture
def alias(migrated_alias: str) -> Iterator[str]:
    """Such a database, without rows, which the project's settings mean."""
    with meant(migrated_alias):
        yield migrated_alias
        emptied(migrated_alias)


@pytest.fixture
def app(alias: str) -> Iterator[Celery]:
    """A Celery app in the project."""
    with django_app(alias, chunk_size=3) as app:
        yield app
