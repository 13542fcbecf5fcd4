"""A process that forks while another of its threads writes to SQLite leaves its child able to write."""

from __future__ import annotations

import os
import threading

import pytest
from scenes import make_batch
from sqlalchemy import text

from celery_flows.store import forking
from celery_flows.store.database import Connection, Database
from celery_flows.store.schema import upgrade


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_a_thread_that_writes(file_url: str) -> None:
    """A child that was forked in the middle of a transaction would find the database locked for ever."""
    database, began, ends = Database(file_url), threading.Event(), threading.Event()

    def write(connection: Connection) -> None:
        connection.execute(text("DELETE FROM flows_tallies"))
        began.set()
        ends.wait(0.3)

    thread = threading.Thread(target=database.transact, args=(write,))
    thread.start()
    assert began.wait(10)
    child = os.fork()
    if not child:
        _write_in_child(Database(file_url))
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    database.close()


def test_nobody_is_at_work_any_more(sqlite_url: str) -> None:
    """Behind what takes a connection out of its pool, as migrations do: forks would wait for it each time."""
    database = Database(sqlite_url)
    forking._at_work.clear()
    upgrade(database)
    assert forking._at_work == {}
    database.close()


def _write_in_child(database: Database) -> None:
    """Write, and end with 0; with something else if that takes long."""
    threading.Timer(10, os._exit, (1,)).start()
    make_batch(database)
    os._exit(0)
