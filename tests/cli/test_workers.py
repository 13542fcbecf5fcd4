"""The command workers."""

from __future__ import annotations

import pytest
from commands import here, records
from scenes import running_batch

from celery_flows.states import JobState
from celery_flows.store import leases
from celery_flows.store.database import Database
from celery_flows.store.types import seconds_ago
from celery_flows.transitions.claim import claim


def heard(database: Database, worker_id: str, seconds: float = 0) -> None:
    """Let a worker have been heard of so long ago."""
    workers = database.tables.workers
    database.transact(leases.renew, database.tables, worker_id, "host-1", 4711)
    moment = workers.update().where(workers.c.id == worker_id).values(heartbeat_at=seconds_ago(seconds))
    database.transact(lambda connection: connection.execute(moment))


@pytest.mark.parametrize(("silence", "state"), [(0, "alive"), (40, "silent"), (90, "dead")])
def test_who_is_heard_of(database: Database, file_url: str, silence: float, state: str) -> None:
    """With the jobs that each runs; silent for half a lease's time, and dead after the whole."""
    heard(database, "w1", silence)
    _, [job, _] = running_batch(database, 2)
    claim(database, job, 1, "token")
    jobs = database.tables.jobs
    mine = jobs.update().where(jobs.c.state == JobState.RUNNING).values(worker_id="w1")
    database.transact(lambda connection: connection.execute(mine))
    [found] = records(here("workers", "--json", url=file_url))
    assert {"id": "w1", "hostname": "host-1", "pid": 4711, "jobs": 1, "state": state}.items() <= found.items()
    done = here("workers", url=file_url)
    assert done.out.splitlines()[1].split()[:4] == ["host-1", "4711", state, "1"]
    assert (done.code, "Start one" in done.err) == (0, state != "alive")


def test_nobody(database: Database, file_url: str) -> None:
    """People are told how to start one."""
    said = "No worker is heard of now. Start one: celery -A your_project worker\n"
    assert here("workers", url=file_url) == (0, "", said)
    assert here("workers", "--json", url=file_url) == (0, "", "")
