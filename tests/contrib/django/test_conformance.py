"""What holds of the transitions on connections of our own holds on Django's: the same tests again."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

import locks
import pytest
from django.db import connections
from proofs.exhaustive import EXHAUSTIVE

from celery_flows.contrib.django.database import DjangoDatabase
from celery_flows.store.database import Database

#: What most of a batch's life is made of: these are run always, and the rest by `make exhaustive`.
ALWAYS: Final = ("claim", "deadlocks", "enroll", "finalize", "nested", "publish", "races", "settle")

#: Modules of tests/store that are about what goes through the door; the others are about connections of our own.
STORE: Final = ("deadlocks", "probe", "races", "text")

#: Two transactions of one thread, which has one connection of Django's.
LEFT_OUT: Final = ("test_adding_locks_no_batch_before_the_last_statement",)

_FOLDER: Final = Path(__file__).parents[2]


def chosen() -> Iterator[tuple[str, dict[str, object]]]:
    """The modules to run, by short name, with what is in each."""
    for path in sorted(_FOLDER.glob("transitions/test_*.py")) + sorted(_FOLDER.glob("store/test_*.py")):
        name, folder = path.stem.removeprefix("test_"), path.parent.name
        if (folder == "transitions" or name in STORE) and (EXHAUSTIVE or name in ALWAYS):
            yield name, vars(import_module(f"{folder}.{path.stem}"))


@pytest.fixture
def database(alias: str) -> Iterator[Database]:
    """The door to the database, on Django's connection."""
    database = DjangoDatabase(alias, lambda: False, {})
    locks.leaving.append(connections.close_all)
    yield database
    locks.leaving.remove(connections.close_all)
    database.close()
    connections[alias].close()


for _name, _tests in chosen():
    _kept = {name: one for name, one in _tests.items() if name[:5] == "test_" and name not in LEFT_OUT}
    globals().update({name: _tests[name] for name in ("servers",) if name in _tests})
    globals().update({f"test_{_name}_{name[5:]}": one for name, one in _kept.items()})
