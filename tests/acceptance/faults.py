"""Fault points: before and after each commit and each publish, in processes that a test has patched.

Where a transaction begins there is one more, of which only some tests make use.

A point is armed by a file, which the first process that comes by takes away before it acts: so a fault happens
once, and the test sees that it did. Without the patch nothing of this is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from acceptance.making import seen, wait_for_file
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy.exc import OperationalError

from celery_flows.messaging.publisher import NotingProducer, Publisher
from celery_flows.store.database import Database

#: The folder in which points are armed.
FOLDER: Final = "FLOWS_ACCEPTANCE_FAULTS"

ACTIONS: Final = ("crash", "raise", "wait")


def arm(folder: Path, point: str, action: str) -> Path:
    """Let the next process that comes by a point do something there; the file is gone when it did."""
    file = folder / f"{point}={action}"
    file.touch()
    return file


def hit(point: str) -> None:
    """Come by a point."""
    folder = Path(os.environ[FOLDER])
    if (folder / "tracing").exists():
        seen("point", point)
    for action in ACTIONS:
        with suppress(FileNotFoundError):
            (folder / f"{point}={action}").unlink()
            seen("fault", point, action, os.getpid())
            _act(point, action, folder)


def _act(point: str, action: str, folder: Path) -> None:
    if action == "crash":
        os._exit(9)
    if action == "wait":
        wait_for_file(str(folder / f"{point}.go"))
    elif "publish a message" in point:
        raise BrokerError(point)
    else:
        raise OperationalError(point, None, Exception("as if the database were away"))


def patch() -> None:
    """Put the points into this process."""
    _patch_transactions()
    _patch_statements()
    NotingProducer.publish = _around("publish a message", NotingProducer.publish)  # type: ignore[method-assign]
    NotingProducer.push = _around("publish a message", NotingProducer.push)  # type: ignore[method-assign]
    Publisher._publish_chunk = _around("publish a chunk", Publisher._publish_chunk)  # type: ignore[method-assign]


def _around(name: str, act: Callable[..., Any]) -> Any:
    def between(*args: Any, **kwargs: Any) -> Any:
        hit(f"before {name}")
        result = act(*args, **kwargs)
        hit(f"after {name}")
        return result

    return between


def _patch_transactions() -> None:
    transact, begin = Database.transact, Database.begin

    def transact_between(self: Database, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def then_hit(*more: Any, **options: Any) -> Any:
            hit(f"begin {_name(work)}")
            result = work(*more, **options)
            hit(f"before {_name(work)}")
            return result

        result = transact(self, then_hit, *args, **kwargs)
        hit(f"after {_name(work)}")
        return result

    def begin_between(self: Database) -> Any:
        connection = begin(self)
        connection.commit = _around("effects.commit", connection.commit)  # type: ignore[method-assign]
        return connection

    Database.transact = transact_between  # type: ignore[method-assign,assignment]
    Database.begin = begin_between  # type: ignore[method-assign]


def _patch_statements() -> None:
    run_in_turn = Database.run_in_turn

    def run_between(self: Database, *asked: Any) -> Any:
        # One after another: what is said in one round trip may come to its end behind any of them.
        return [answer for one in asked for answer in _around(_name(one[0]), run_in_turn)(self, one)]

    Database.run_in_turn = run_between  # type: ignore[method-assign]


def _name(work: Any) -> str:
    return f"{work.__module__.rpartition('.')[2]}.{work.__name__}"
