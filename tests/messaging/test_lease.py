"""A worker process's lease: renewed by a thread of its own, lost and found with the database."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from locks import on_sqlite, wait_until
from scenes import count, row, running_batch, state_of

from celery_flows.errors import InvalidSetting
from celery_flows.messaging.lease import Lease
from celery_flows.settings import Settings
from celery_flows.states import JobState
from celery_flows.store.database import Database
from celery_flows.store.leases import reserve
from celery_flows.transitions.claim import Holder, claim

SETTINGS = Settings.build({"lease_timeout": 0.6, "heartbeat_interval": 0.1})

#: What the thread of a lease is called.
THREAD = "celery-flows-lease"


@contextmanager
def leased(database: Database, reserved: Callable[[], dict[str, int]] = dict) -> Iterator[Lease]:
    """A lease of this process, that ends with the block."""
    lease = Lease(SETTINGS, database, reserved)
    lease.start()
    try:
        yield lease
    finally:
        lease.stop()
        # It must write nothing into the next test's database.
        wait_until(lambda: not any(one.name == THREAD for one in threading.enumerate()), "the end of the thread")


def heard(database: Database, worker_id: str | None = None) -> datetime | None:
    """When a worker, or the only one, was last heard of."""
    workers = database.tables.workers
    statement = sa.select(workers.c.heartbeat_at)
    if worker_id is not None:
        statement = statement.where(workers.c.id == worker_id)
    with database.reading() as connection:
        return connection.scalar(statement)


def is_heard_after(database: Database, before: datetime | None) -> bool:
    """Whether the only worker was heard of again."""
    return heard(database) != before


def rename(database: Database, old: str, new: str) -> None:
    """Take the table of leases away, or bring it back."""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")


def test_a_lease_is_renewed_until_it_is_stopped(database: Database) -> None:
    """The row is there when the worker begins, and its heartbeat goes on by itself."""
    with leased(Database(database.url)) as lease:
        first = heard(database, lease.id)
        assert first is not None
        for _ in range(2):
            wait_until(partial(is_heard_after, database, heard(database, lease.id)), "a heartbeat")


@on_sqlite
def test_a_worker_that_can_not_renew_takes_no_jobs_until_it_can(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so when renewing fails, when its lease is over, and when it takes jobs again, which it then does."""
    _, [job] = running_batch(database)

    def said(words: str) -> bool:
        return words in caplog.text

    with caplog.at_level(logging.WARNING), leased(Database(database.url)) as lease:
        rename(database, "flows_workers", "away")
        try:
            wait_until(lambda: said("it takes no more jobs"), "a warning")
            wait_until(lambda: said("takes no more jobs until it can"), "the end of the lease")
        finally:
            rename(database, "away", "flows_workers")
        holder = Holder(lease.id, SETTINGS.lease_timeout)
        wait_until(lambda: said("takes jobs again"), "a renewal")
        assert claim(database, job, 1, "t", holder) == 1
    assert state_of(database, job) is JobState.RUNNING


class Unanswering(Database):
    """A database whose answers to some transactions are lost, after the commit."""

    #: How many answers are lost from now on.
    lost = 0

    def transact(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        found = super().transact(work, *args, **kwargs)
        if work is reserve and self.lost:
            self.lost -= 1
            raise sa.exc.OperationalError("COMMIT", {}, Exception("the connection was lost"))
        return found


@pytest.mark.parametrize("still_has_it", [True, False])
def test_what_waits_here_is_known_though_an_answer_was_lost(database: Database, *, still_has_it: bool) -> None:
    """A message noted as this worker's, and gone when that is known, is noted as nobody's."""
    _, [job] = running_batch(database)
    reserved, unanswering = {job: 1}, Unanswering(database.url)
    unanswering.lost = 2
    with leased(unanswering, lambda: dict(reserved)) as lease:
        assert row(database, job).worker_id == lease.id
        if still_has_it:
            wait_until(lambda: unanswering.lost == 0, "another try")
        else:
            reserved.clear()
        wait_until(lambda: (row(database, job).worker_id == lease.id) is still_has_it, "what is known of it")


@on_sqlite
def test_a_lease_that_was_ended_is_written_again(database: Database) -> None:
    """The sweep had given this process up, which lives: the next heartbeat is a new row under the same id."""
    with leased(Database(database.url)) as lease:
        with database.engine.begin() as connection:
            connection.execute(database.tables.workers.delete())
        wait_until(lambda: heard(database, lease.id) is not None, "a new row")
        assert count(database, "workers") == 1


def test_a_busy_greenlet_does_not_keep_the_lease_from_renewal(database: Database, tmp_path: Path) -> None:
    """The heart beats in a thread of the operating system, which a task that never yields does not stop."""
    script = """
from gevent import monkey
monkey.patch_all()
import sys, os
from celery_flows.messaging.lease import Lease
from celery_flows.settings import Settings
from celery_flows.store.database import Database
from celery_flows.store.leases import reserve
settings = Settings.build({"lease_timeout": 0.6, "heartbeat_interval": 0.1})
lease = Lease(settings, Database(sys.argv[1]))
lease.start()
while not os.path.exists(sys.argv[2]):
    sum(range(1000))
# As a worker does. A thread that is at work when the interpreter goes may take the process down.
lease.stop()
"""
    over, url = tmp_path / "over", database.url.render_as_string(hide_password=False)
    busy = subprocess.Popen([sys.executable, "-c", script, url, str(over)], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: heard(database) is not None or busy.poll() is not None, "the first heartbeat", 0.05)
        for _ in range(3):
            wait_until(partial(is_heard_after, database, heard(database)), "a heartbeat", 0.05)
        assert busy.poll() is None
        over.touch()
        assert (busy.wait(30), busy.stderr and busy.stderr.read()) == (0, "")
    finally:
        busy.kill()
        busy.communicate()


def test_a_lease_under_three_heartbeats_is_refused() -> None:
    """One late heartbeat must not cost a worker its jobs."""
    assert Settings.build({"lease_timeout": 3, "heartbeat_interval": 1}).lease_timeout == 3
    with pytest.raises(InvalidSetting, match="at least three times heartbeat_interval, which is 1 s"):
        Settings.build({"lease_timeout": 2.9, "heartbeat_interval": 1})
