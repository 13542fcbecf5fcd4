"""Listening where a driver speaks to its database, below SQLAlchemy."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from sqlalchemy import event

from celery_flows.store.database import Database

#: Everything that was said, since a listener began.
Said: TypeAlias = Callable[[], list[str]]


@contextmanager
def listening(database: Database, folder: Path) -> Iterator[Said]:
    """Hear every statement that this database is sent on connections opened from now on."""
    database.close()
    with _LISTENERS[database.dialect](database, folder) as said:
        yield said
    database.close()


@contextmanager
def round_trips(database: Database, folder: Path) -> Iterator[Callable[[], int]]:
    """Count how often PostgreSQL is waited for, on connections opened from now on."""
    database.close()
    with _traced(database, folder) as lines:
        # Whatever is sent before anything is received is sent at once. What is received is written down late.
        yield lambda: sum(one[1] != "F" and other[1] == "F" for one, other in pairwise([("", ""), *lines()]))
    database.close()


@contextmanager
def _postgresql(database: Database, folder: Path) -> Iterator[Said]:
    """A statement is a Query, or an Execute of what was parsed before; a Sync ends a round trip."""

    def said() -> list[str]:
        return [
            " ".join(line[3:])
            for line in lines()
            if len(line) > 3 and line[1] == "F" and line[3] in ("Query", "Parse", "Execute", "Sync")
        ]

    with _traced(database, folder) as lines:
        yield lambda: _statements(said())


@contextmanager
def _traced(database: Database, folder: Path) -> Iterator[Callable[[], list[list[str]]]]:
    """The client library itself writes down each message that goes over the wire."""
    trace = folder / "libpq.trace"
    file = os.open(trace, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def trace_it(connection: Any, record: Any) -> None:
        connection.pgconn.trace(file)

    event.listen(database.engine, "connect", trace_it)

    def lines() -> list[list[str]]:
        every = (line.split("\t") for line in trace.read_text(errors="replace").splitlines())
        return [line for line in every if len(line) > 1]

    yield lines
    os.close(file)


def _statements(messages: list[str]) -> list[str]:
    """The statements among messages; one that was prepared before has no words."""
    found, words = [], "(prepared)"
    for message in messages:
        if message.startswith("Parse"):
            words = message
        elif message.startswith("Query"):
            found.append(message)
        elif message.startswith("Execute"):
            found.append(words)
            words = "(prepared)"
    return found


@contextmanager
def _mysql(database: Database, folder: Path) -> Iterator[Said]:
    """Each command that PyMySQL writes to its socket."""
    from pymysql.connections import Connection

    heard: list[str] = []
    speak = Connection._execute_command

    def overheard(self: Any, command: int, sql: Any) -> Any:
        heard.append(sql.decode(errors="replace") if isinstance(sql, bytes | bytearray) else str(sql))
        return speak(self, command, sql)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "_execute_command", overheard)
        yield lambda: list(heard)


@contextmanager
def _sqlite(database: Database, folder: Path) -> Iterator[Said]:
    """What SQLite itself says that it runs; one statement for many rows is said once for each."""
    heard: list[str] = []

    def trace_it(connection: sqlite3.Connection, record: Any) -> None:
        connection.set_trace_callback(heard.append)

    event.listen(database.engine, "connect", trace_it)

    def said() -> list[str]:
        words = [re.sub(r"'[^']*'|\d+|NULL", "?", statement) for statement in heard]
        return [
            word
            for at, word in enumerate(words)
            if not word.startswith("INSERT") or word not in words[at - 1 : at]
        ]

    yield said


_LISTENERS = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}
