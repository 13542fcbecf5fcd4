"""What holds of the transitions on connections of our own holds on Django's: the same tests again."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Final

import pytest
from django.db import connections

from celery_flows.contrib.django.database import DjangoDatabase
from celery_flows.store.database import Database

#: Modules of tests/transitions, but for those whose tests hold locks on several connections of one thread.
MODULES: Final = ("enroll", "settle", "publish", "nested")


@pytest.fixture
def database(alias: str) -> Iterator[Database]:
    """The door to the database, on Django's connection."""
    database = DjangoDatabase(alias, lambda: False, {})
    yield database
    database.close()
    connections[alias].close()


for _module in MODULES:
    _tests = vars(import_module(f"transitions.test_{_module}"))
    globals().update({f"test_{_module}_{name[5:]}": one for name, one in _tests.items() if name[:5] == "test_"})
